"""The alerts: each is described, each has been seen firing and silent, and no edit goes unnoticed."""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from tests.observability.sources import DASHBOARDS, JOB, PROMETHEUS, RUNBOOK, rules
from tests.process import needed

SLOW = {"slo": [pytest.mark.slow]}
TESTS = {path.stem: sorted(PROMETHEUS.glob(f"tests/{path.stem}*.yml")) for path in PROMETHEUS.glob("rules/*.yml")}
METRIC = re.compile(r"[a-z]+_[a-z_]+(?=\{|\[| >)|\bup\b(?= ==|\{)")  # those of exporters; recordings are in test_stack
THRESHOLD = re.compile(r"(?<=[<>] )[\d.]+(?:e\d+)?(?= \*| and|$)|(?<=expr: )0\.99\d*", re.MULTILINE)
OF_THE_JOB = re.compile(r"\s+and on \(job\) service:job")
ROUTED_BY_NAME = {"Watchdog", "SmokeRuns"}
ALERTS = [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([needed("promtool"), *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, [])) for name in TESTS])
def test_rules_do_what_their_tests_say(name: str) -> None:
    """Promtool agrees with each rules file, and with every test of it."""
    checked = promtool("check", "rules", PROMETHEUS / f"rules/{name}.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = promtool("test", "rules", *TESTS[name])
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_configuration_is_valid() -> None:
    """Promtool accepts what the containers run with, as it stands in the repository."""
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_one_rule_names_the_job() -> None:
    """It is the job that Prometheus scrapes. Another job is another line in one file."""
    assert [rule["labels"]["job"] for rule in rules() if rule.get("record") == "service:job"] == [JOB]
    expressions = [rule["expr"] for rule in rules()]
    assert [expression for expression in expressions if "job=" in expression] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_how_bad_what_and_where_to_look(alert: dict[str, Any]) -> None:
    """Each has a severity, a summary, a query, its own section of the runbook, and a dashboard that exists."""
    assert (alert["labels"]["severity"] == "none") == (alert["alert"] in ROUTED_BY_NAME)
    assert alert["labels"]["severity"] in {"page", "ticket", "none"}
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["query_url"].startswith("{{ $externalURL }}{{ graphLink ")
    _, _, anchor = alert["annotations"]["runbook_url"].partition("/observability/runbook.md#")
    assert anchor == alert["alert"].lower()
    assert f"\n## {alert['alert']}\n" in RUNBOOK.read_text()
    _, _, uid = alert["annotations"]["dashboard_url"].partition("/d/")
    assert uid in DASHBOARDS


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_was_seen_firing_and_silent(alert: dict[str, Any]) -> None:
    """Some promtool test has it fire, and some has it stay silent."""
    seen = [
        bool(expected["exp_alerts"])
        for path in (path for paths in TESTS.values() for path in paths)
        for test in yaml.safe_load(path.read_text())["tests"]
        for expected in test.get("alert_rule_test", ())
        if expected["alertname"] == alert["alert"]
    ]
    assert set(seen) == ({True} if alert["alert"] == "Watchdog" else {True, False})


def mutants() -> Iterator[Any]:
    """Each rules file with one metric renamed, one threshold ten times as high or as low, or every job let in."""
    for name in TESTS:
        text = (PROMETHEUS / f"rules/{name}.yml").read_text()
        for match in THRESHOLD.finditer(text):
            for changed in tenfold(match.group()):
                yield mutant(name, text, match, changed)
        for match in OF_THE_JOB.finditer(text):
            yield mutant(name, text, match, "")
        for match in METRIC.finditer(text):
            yield mutant(name, text, match, f"{match.group()}_x")


def tenfold(number: str) -> list[str]:
    value = float(number)
    if value in {0.99, 0.995}:  # an objective: its budget is what grows or shrinks
        return [f"{1 - (1 - value) * factor:g}" for factor in (10, 0.1)]
    return [f"{value * factor:g}" for factor in (10, 0.1)] if value else []


def mutant(name: str, text: str, match: re.Match[str], changed: str) -> Any:
    line = text.count("\n", 0, match.start()) + 1
    mutated = text[: match.start()] + changed + text[match.end() :]
    return pytest.param(name, mutated, id=f"{name}.yml:{line}: {match.group()} -> {changed}")


def survives(folder: Path, name: str, text: str) -> bool:
    copytree(PROMETHEUS, folder)
    (folder / f"rules/{name}.yml").write_text(text)
    tests = [folder / "tests" / path.name for path in TESTS[name]]
    return all(promtool("test", "rules", path).returncode == 0 for path in tests)


@pytest.mark.slow
def test_no_edit_of_a_rule_goes_unnoticed(tmp_path: Path) -> None:
    """A renamed metric, a threshold ten times as high or as low, or a rule for every job fails some promtool test."""
    edits = list(mutants())
    assert len(edits) > 60
    with ThreadPoolExecutor(2) as threads:
        survived = threads.map(lambda edit: survives(tmp_path / str(id(edit)), *edit.values), edits)
        assert [edit.id for edit, lives in zip(edits, survived, strict=True) if lives] == []
