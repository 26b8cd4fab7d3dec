"""What is kept of a run, and what is made of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import report
from benchmarks.__main__ import compare
from benchmarks.targets import MEASURED, ratios, targets, worse

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
    for plot in (ROOT / "benchmarks").glob("*.svg"):
        assert f"../benchmarks/{plot.name}" in page


def test_the_page_shows_the_instructions_that_are_recorded() -> None:
    """Those that `make bench-count` compares with."""
    recorded = json.loads(RESULTS.with_name("instructions.json").read_text())
    table = report.markdown_table(("mode", *MEASURED), report.instruction_rows(recorded))
    assert table in (ROOT / "docs" / "performance.md").read_text()


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
        mode: {call: numbers["cpu_us"] for call, numbers in calls.items()} for mode, calls in results["costs"].items()
    }
    assert ratios(cpu_us) == pytest.approx(results["ratios"], rel=0.01)


def test_a_tenth_more_is_worse() -> None:
    """Less, as much, and a little more are not."""
    recorded = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert worse(recorded, {"a": 0.5, "b": 1.09, "c": 1.11}) == ["c"]


def test_the_check_fails_where_a_ratio_is_worse(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the one ratio at fault by its name."""
    recorded = {"on / off": 0.5, "off / floor": 2.0}
    with pytest.raises(typer.Exit) as ended:
        compare("CPU a request", recorded, {"on / off": 0.6, "off / floor": 2.1})
    assert ended.value.exit_code == 1
    assert capsys.readouterr().out.rstrip().endswith("more than a tenth worse: on / off")
