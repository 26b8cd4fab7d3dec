"""What an operator pastes from docs/kubernetes.md does what the page says."""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import ROOT, Mapping, load
from tests.docs.pages import blocks, blocks_of
from tests.process import needed

PAGE = "docs/kubernetes.md"
RULES = ROOT / "deploy/kubernetes/monitoring/rules.yaml"
LEFT_OUT = {"TargetDown", "Watchdog"}
KUBECTL = """#!/bin/sh
printf '%s\\n' "$*" >> "$0.log"
case "$*" in *" wait "*) exit "$WAITED";; esac
"""


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    """One that only writes down how it is called; `wait` ends with the code of the variable WAITED."""
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(0o755)
    return program


def deploy(kubectl: Path, waited: int) -> list[str]:
    """Paste the page's deployment, and return how kubectl was called."""
    (block,) = [block.text for block in blocks_of(ROOT / PAGE) if "rollout status" in block.text]
    env = {"PATH": f"{kubectl.parent}:{os.environ['PATH']}", "WAITED": str(waited)}
    subprocess.run(["sh"], input=block, env=env, text=True, check=False, timeout=10)
    return kubectl.with_suffix(".log").read_text().splitlines()


def test_nothing_is_deployed_after_a_migration_that_failed(kubectl: Path) -> None:
    """The shell of a pasted block goes on after a line that failed."""
    assert [call.split()[-1] for call in deploy(kubectl, 1)][2:] == ["--timeout=2h"]


def test_a_deployment_ends_with_the_rollout(kubectl: Path) -> None:
    """And takes back what another command has set, such as the image of a rollback."""
    calls = deploy(kubectl, 0)
    assert calls[-1] == "-n task-api rollout status deployment/task-api"
    applied = [call for call in calls if call.startswith("apply ")]
    assert [call.startswith("apply --server-side --force-conflicts -k ") for call in applied] == [True, True]


def test_the_patches_name_the_alerts_by_their_places() -> None:
    """Another alert before one of them would be taken away in its place."""
    (text,) = blocks(PAGE, __file__)
    rules = {body["metadata"]["name"]: body for body in load(RULES)}
    found = set()
    for patch in yaml.safe_load(text):
        (step,) = json.loads(patch["patch"])
        _, spec, groups, group, alerts, place = step["path"].split("/")
        assert step["op"] == "remove"
        found.add(rules[patch["target"]["name"]][spec][groups][int(group)][alerts][int(place)]["alert"])
    assert found == LEFT_OUT


@pytest.mark.slow
def test_no_other_alert_is_taken_away(tmp_path: Path) -> None:
    """Once kustomize has added the patches to an overlay."""
    (text,) = blocks(PAGE, __file__)
    production = os.path.relpath(ROOT / "deploy/kubernetes/overlays/production", tmp_path.resolve())
    (tmp_path / "kustomization.yaml").write_text(f"resources: [{production}]\npatches:\n{text}")
    built = subprocess.run([needed("kustomize"), "build", tmp_path], check=True, capture_output=True, text=True).stdout
    left = [body for body in yaml.safe_load_all(built) if body["kind"] == "PrometheusRule"]
    assert alerts_of(left) == alerts_of(load(RULES)) - LEFT_OUT


def alerts_of(objects: Iterable[Mapping]) -> set[str]:
    rules = [rule for body in objects for group in body["spec"]["groups"] for rule in group["rules"]]
    return {rule["alert"] for rule in rules if "alert" in rule}
