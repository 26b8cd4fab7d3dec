"""The workflows run what was looked at, with no right that they do not need."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.process import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
USES = re.compile(r"^\s*(?:- )?uses: (.*)$", re.MULTILINE)
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+|\./\.github/workflows/\w+\.yml")
MAY_WRITE = {("release.yml", "image"): {"packages", "id-token", "attestations"}}

of_every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> dict[str, Any]:
    workflow: dict[str, Any] = yaml.safe_load(path.read_text())
    return workflow


def writes(permissions: dict[str, str] | str) -> set[str]:
    """What may be written; `write-all` and the like have no place here."""
    assert isinstance(permissions, dict)
    return {name for name, right in permissions.items() if right != "read"}


@of_every_workflow
def test_each_action_is_pinned(path: Path) -> None:
    """By the digest of a commit, with the version that a person reads: a tag can be moved."""
    text = path.read_text()
    used = USES.findall(text)
    assert len(used) == text.count("uses:")
    assert [one for one in used if not PINNED.fullmatch(one)] == []


@of_every_workflow
def test_each_has_the_least_permissions(path: Path) -> None:
    """The workflow can write nothing; a job can write only what is listed here."""
    workflow = read(path)
    assert writes(workflow["permissions"]) == set()
    for name, job in workflow["jobs"].items():
        assert writes(job.get("permissions", {})) == MAY_WRITE.get((path.name, name), set())


@of_every_workflow
def test_no_step_finds_the_token_in_the_checkout(path: Path) -> None:
    """Git would keep it for every step after."""
    steps = [step for job in read(path)["jobs"].values() for step in job.get("steps", ())]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []
    assert len(checkouts) == path.read_text().count("uses: actions/checkout")


def test_a_release_is_described_and_signed() -> None:
    """What is attested and signed is the digest that was pushed, after all checks."""
    job = read(ROOT / ".github/workflows/release.yml")["jobs"]["image"]
    assert job["needs"] == "check"
    text = str(job["steps"])
    for part in ("'provenance': 'mode=max'", "'sbom': True", "actions/attest@", "cosign sign --yes"):
        assert part in text, part
    assert text.count("steps.build.outputs.digest") == 2
