"""The dashboards, as Grafana reads them."""

import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from tests.observability.promql import in_markdown, metrics_of
from tests.observability.sources import DASHBOARDS, GRAFANA, JOB, OBSERVE, RUNBOOK, load

UNITS = {"none", "short", "percentunit", "s", "bytes", "reqps", "ops", "cps"}
SOURCES = yaml.safe_load((GRAFANA / "provisioning/datasources/all.yaml").read_text())["datasources"]
OVERVIEW = GRAFANA / "dashboards/overview.json"
BOARDS = pytest.mark.parametrize("board", DASHBOARDS.values(), ids=DASHBOARDS)


@BOARDS
def test_panels_are_well_formed(board: dict[str, Any]) -> None:
    """Each panel has an id, a title, an explanation, a unit, and queries that are told apart."""
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert board["panels"][0]["type"] == "row"
    for panel in (panel for panel in panels if panel["type"] != "row"):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        references = [target["refId"] for target in panel["targets"]]
        assert references == list("ABCDEFG"[: len(references)])


@BOARDS
def test_panels_do_not_overlap(board: dict[str, Any]) -> None:
    """Each panel has its own place on the grid of 24 columns, and none leaves a row half empty."""
    places = [panel["gridPos"] for panel in board["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = [one[a] + one[size] <= other[a] or other[a] + other[size] <= one[a] for a, size in ("xw", "yh")]
        assert any(apart), f"{one} {other}"
    height = max(place["y"] + place["h"] for place in places)
    assert sum(place["w"] * place["h"] for place in places) == 24 * height


@BOARDS
def test_panels_ask_the_provisioned_source(board: dict[str, Any]) -> None:
    """Every query, variable and annotation names the data source that provisioning makes."""
    asked = [*board["annotations"]["list"], *board["templating"]["list"]]
    asked += [target for panel in board["panels"] for target in panel.get("targets", ())]
    known = {source["uid"]: source["type"] for source in SOURCES}
    assert {(one["datasource"]["uid"], one["datasource"]["type"]) for one in asked} <= set(known.items())


@BOARDS
def test_the_job_is_a_variable(board: dict[str, Any]) -> None:
    """It begins with the job that Prometheus scrapes, and no query names another, nor that one itself."""
    job, *others = board["templating"]["list"]
    assert (job["name"], job["current"]["value"]) == ("job", JOB)
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [variable["query"]["query"] for variable in others]
    assert {found for expression in asked for found in re.findall(r'job=~?"(.*?)"', expression)} == {"$job"}


def test_exemplars_lead_to_traces_and_back() -> None:
    """An exemplar's trace id opens in Jaeger, and a trace's route opens in Prometheus."""
    sources = {source["uid"]: source["jsonData"] for source in SOURCES}
    exemplars = sources["prometheus"]["exemplarTraceIdDestinations"]
    assert {link["name"] for link in exemplars} == {"trace_id"}
    assert [link.get("datasourceUid") for link in exemplars] == ["jaeger", None]
    back = sources["jaeger"]["tracesToMetrics"]
    assert back["datasourceUid"] == "prometheus"
    assert back["tags"] == [{"key": "http.route", "value": "handler"}]
    assert all("$$__tags" in query["query"] for query in back["queries"])


def test_latency_panels_show_exemplars() -> None:
    """The first dashboard's latency panels ask for the dots that lead to traces."""
    panels = load(OVERVIEW)["panels"]
    asking = {panel["title"] for panel in panels for target in panel.get("targets", ()) if target.get("exemplar")}
    assert {"Latency", "Duration, p95"} <= asking


def test_every_section_of_the_runbook_helps() -> None:
    """Each says what it means, how to see it and what to do, and has a query for it."""
    sections = RUNBOOK.read_text().split("\n## ")[1:]
    assert len(sections) > 10
    for section in sections:
        for heading in ("**What it means.**", "**How to see it.**", "**What to do.**"):
            assert heading in section, section
        assert in_markdown(section), section


def test_the_page_has_queries() -> None:
    """docs/observe.md shows ten."""
    assert len(in_markdown(OBSERVE.read_text())) == 10


def test_names_are_told_from_words() -> None:
    """The reader of expressions finds metrics, and neither functions, labels nor operators."""
    expression = 'sum by (a, b) (rate(x_total{c="d_e{"}[5m])) / on (f) group_left (g) slo:y:z > bool 2 and absent(up)'
    assert metrics_of(expression) == {"x_total", "slo:y:z", "up"}
