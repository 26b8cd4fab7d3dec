"""renovate.json: what belongs together moves together, and nothing that is pinned is left out."""

import json
import re
import tomllib
from fnmatch import fnmatch
from typing import Any

from devtools.supply.lock import LOCKS
from tests.process import ROOT

RENOVATE = json.loads((ROOT / "renovate.json").read_text())


def packages() -> list[str]:
    """The lines of pyproject.toml that name a package of OpenTelemetry."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*told["project"]["dependencies"], *told["dependency-groups"]["dev"]]
    return [line for line in lines if line.startswith("opentelemetry-")]


def rules(line: str) -> dict[str, Any]:
    """What all rules for packages say of one by its name, as Renovate merges them."""
    name = re.split(r"[<>=]", line)[0]
    merged: dict[str, Any] = {}
    for rule in RENOVATE["packageRules"]:
        if any(fnmatch(name, pattern.replace("**", "*")) for pattern in rule.get("matchPackageNames", ())):
            merged |= rule
    return merged


def test_opentelemetry_moves_together() -> None:
    """The betas, the SDK and the exporter are one change, which raises the SDK's bound too."""
    lines = packages()
    assert any(line.startswith("opentelemetry-sdk>") for line in lines)
    assert {(rules(line)["groupName"], rules(line)["rangeStrategy"]) for line in lines} == {("OpenTelemetry", "bump")}


def test_a_beta_moves_to_the_next_beta() -> None:
    """By itself Renovate leaves a beta only for a stable version, and there is none."""
    betas = [line for line in packages() if re.search(r"==.*b\d+$", line)]
    assert len(betas) >= 4
    assert [line for line in betas if rules(line).get("ignoreUnstable") is not False] == []


def test_all_that_is_pinned_is_looked_after() -> None:
    """Packages, images and actions; pyproject.toml by one manager, the one that writes the lock files."""
    managers = set(RENOVATE["enabledManagers"])
    assert {"pip-compile", "dockerfile", "docker-compose", "github-actions"} <= managers
    assert not managers & {"pep621", "poetry"}
    (pattern,) = RENOVATE["pip-compile"]["managerFilePatterns"]
    assert all(re.search(pattern.strip("/"), lock) for lock in LOCKS)
