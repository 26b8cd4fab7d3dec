"""The README's recipe for a new entity, followed to the letter."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
KNOWS_BOTH = """
from app import migrations
assert migrations.revisions() == ("0002_note", {"0001_task"})
"""
COPIED = ("app", "tests", "pyproject.toml")


def blocks(readme: str, language: str) -> list[str]:
    section = readme.partition("## Add an entity")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def run(project: Path, *command: str) -> None:
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr


def register(main: Path, diff: str) -> None:
    """Apply the README's three lines: an import among the imports, and one line for another."""
    imported, old, new = (line[1:] for line in diff.strip().splitlines())
    text = main.read_text()
    assert old in text
    main.write_text(text.replace(old, new).replace("from app.settings", f"{imported}\nfrom app.settings", 1))


def test_a_new_entity_is_a_copy_of_one_folder(tmp_path: Path) -> None:
    """Copied, renamed and registered as the README says, the entity migrates and passes its own tests.

    Code of two revisions knows which is the older one.
    """
    project = tmp_path / "a copy"
    for name in COPIED:
        source, target = ROOT / name, project / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    readme = (ROOT / "README.md").read_text()
    run(project, "bash", "-euc", blocks(readme, "sh")[0])
    register(project / "app/main.py", blocks(readme, "diff")[0])
    run(project, sys.executable, "-c", KNOWS_BOTH)
    run(project, sys.executable, "-m", "pytest", "-q", "tests/notes", "tests/tasks/test_isolation.py")
    run(project, sys.executable, "-m", "mypy", "app/notes")
