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
    variables = [variable for variable in board["templating"]["list"] if variable["type"] != "textbox"]
    asked = [*board["annotations"]["list"], *variables]
    asked += [target for panel in board["panels"] for target in panel.get("targets", ())]
    known = {source["uid"]: source["type"] for source in SOURCES}
    assert {(one["datasource"]["uid"], one["datasource"]["type"]) for one in asked} <= set(known.items())


@BOARDS
def test_the_job_is_a_variable(board: dict[str, Any]) -> None:
    """It begins with the job that Prometheus scrapes, which is the service's name in Loki. No query names another."""
    job, *others = board["templating"]["list"]
    assert (job["name"], job["current"]["value"]) == ("job", JOB)
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    asked += [variable["query"]["query"] for variable in others if variable["type"] == "query"]
    named = re.compile(r'(?:job|service_name)=~?"(.*?)"')
    assert {found for expression in asked for found in named.findall(expression)} == {"$job"}


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


def test_a_trace_leads_to_its_lines_and_a_line_to_its_trace() -> None:
    """Both by the trace's id, which Loki keeps beside the line."""
    sources = {source["uid"]: source["jsonData"] for source in SOURCES}
    lines = sources["jaeger"]["tracesToLogsV2"]
    assert (lines["datasourceUid"], lines["customQuery"]) == ("loki", True)
    assert lines["query"] == f'{{service_name="{JOB}"}} | trace_id="$${{__trace.traceId}}"'
    (link,) = sources["loki"]["derivedFields"]
    assert (link["matcherType"], link["matcherRegex"]) == ("label", "trace_id")
    assert (link["datasourceUid"], link["url"]) == ("jaeger", "$${__value.raw}")


def test_latency_panels_show_exemplars() -> None:
    """The first dashboard's latency panels ask for the dots that lead to traces."""
    panels = load(OVERVIEW)["panels"]
    asking = {panel["title"] for panel in panels for target in panel.get("targets", ()) if target.get("exemplar")}
    assert {"Latency", "Duration, p95"} <= asking


HEADINGS = (
    "**What it means.**",
    "**Who?**",
    "**What changed?**",
    "**Where?**",
    "**What to do.**",
    "**It worked when**",
)


def test_every_section_of_the_runbook_helps() -> None:
    """Each says what it means, asks who, what changed and where, says what to do and when it worked; with queries."""
    sections = RUNBOOK.read_text().split("\n## ")[1:]
    assert len(sections) > 10
    for section in sections:
        for heading in HEADINGS:
            assert heading in section, section
        assert in_markdown(section), section


def test_each_dashboard_marks_deployments() -> None:
    """A mark stands where a revision begins to run."""
    for board in DASHBOARDS.values():
        (mark,) = [one for one in board["annotations"]["list"] if one["name"] == "Deployments"]
        assert metrics_of(mark["expr"]) == {"task_api_build_info"}
        assert "{{revision}}" in mark["titleFormat"]


def test_the_page_has_queries() -> None:
    """docs/observe.md shows ten."""
    assert len(in_markdown(OBSERVE.read_text())) == 10


def test_names_are_told_from_words() -> None:
    """The reader of expressions finds metrics, and neither functions, labels nor operators."""
    expression = 'sum by (a, b) (rate(x_total{c="d_e{"}[5m])) / on (f) group_left (g) slo:y:z > bool 2 and absent(up)'
    assert metrics_of(expression) == {"x_total", "slo:y:z", "up"}
