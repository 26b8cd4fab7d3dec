"""A copy knows which version it was made from, and docs/upgrade.md says how to take later ones."""

import re
import tomllib
from pathlib import Path

from tests.devtools.processes import ROOT
from tests.devtools.template import NAME, commit, copy_template, run

TEMPLATE = tomllib.loads((ROOT / "template.toml").read_text())
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/upgrade.md").read_text(), re.DOTALL)
NEW = "-".join(("our", "own", "copy"))  # not written out: a name that stands in the files is refused
CHANGED = Path("app/telemetry/__init__.py")


def test_the_version_is_the_newest_of_the_changelog() -> None:
    """Who releases one writes it in both."""
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == TEMPLATE["version"]


def test_a_copy_takes_a_later_version(tmp_path: Path) -> None:
    """The commands of docs/upgrade.md, one after the other: the template's change arrives, and the team's own stays."""
    template, ours = copy_template(tmp_path / "the template"), tmp_path / "our copy"
    commit(template)
    run(template, "git", "tag", f"v{TEMPLATE['version']}")
    run(tmp_path, "git", "clone", "--quiet", str(template), str(ours))
    with (template / CHANGED).open("a") as file:
        file.write(f"\n# Later, in {NAME}.\n")
    commit(template)
    run(template, "git", "tag", "v99.0.0")
    place = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{template}.insteadOf"}
    place |= {"GIT_CONFIG_VALUE_0": TEMPLATE["source"]}
    named, looked, taken = BLOCKS
    run(ours, "bash", "-euc", re.sub("NAME=.*", f"NAME={NEW}", named))
    (ours / CHANGED).write_text("# Ours.\n" + (ours / CHANGED).read_text())
    commit(ours)
    assert str(CHANGED) in run(ours, "bash", "-euc", looked, **place)
    run(ours, "bash", "-euc", taken, **place)
    text = (ours / CHANGED).read_text()
    assert text.startswith("# Ours.\n")
    assert text.endswith(f"\n# Later, in {NEW}.\n")
