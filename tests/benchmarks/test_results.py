"""What is kept of a run, and what is made of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.targets import ratios, targets, worse

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results.json"


@pytest.fixture(scope="module")
def results() -> Any:
    return json.loads(RESULTS.read_text())


def test_the_documents_show_the_recorded_run(results: Any) -> None:
    """The tables of the README and of docs/performance.md are those of the last recorded run, word for word."""
    shown = report.markdown(results)
    assert (ROOT / "benchmarks" / "results.md").read_text() == shown
    summary, *others = shown.strip().split("\n\n")
    assert summary in (ROOT / "README.md").read_text()
    page = (ROOT / "docs" / "performance.md").read_text()
    for part in others:
        assert part in page


def test_the_documents_name_each_promise_that_is_missed(results: Any) -> None:
    """Whoever reads of a promise learns whether it is kept."""
    told, _, table = (ROOT / "docs" / "performance.md").read_text().partition("| promise |")
    missed = [target for target in targets(results) if not target.holds]
    assert f"{len(missed)} of {len(targets(results))} bounds are missed" in told
    for target in missed:
        assert target.name in table


def test_ratios_are_of_one_run(results: Any) -> None:
    """They follow from the recorded CPU a request."""
    cpu_us = {
        mode: {call: numbers["cpu_us"] for call, numbers in found["calls"].items()}
        for mode, found in results["costs"].items()
    }
    assert ratios(cpu_us) == pytest.approx(results["ratios"], rel=0.01)


def test_a_tenth_more_is_worse() -> None:
    """Less, as much, and a little more are not."""
    recorded = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert worse(recorded, {"a": 0.5, "b": 1.09, "c": 1.11}) == ["c"]


@pytest.mark.slow
def test_the_check_fails_where_a_ratio_is_worse(tmp_path: Path, results: Any) -> None:
    """Exit code 1, and the one ratio at fault by its name."""
    recorded = dict.fromkeys(results["ratios"], 1000.0) | {"on / off, geometric mean": 0.5}
    file = tmp_path / "earlier.json"
    file.write_text(json.dumps({"ratios": recorded}))
    check = [sys.executable, "-m", "benchmarks", "check", "--quick", "--against", str(file)]
    run = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1, run.stderr
    assert run.stdout.rstrip().endswith("more than a tenth worse: on / off, geometric mean")
