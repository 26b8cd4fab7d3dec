"""The list of incidents: what each names exists, and the page has them all."""

import re
from dataclasses import replace

import pytest

from devtools.drill.catalogue import INCIDENTS
from devtools.drill.incident import Incident
from devtools.drill.run import find_places
from devtools.drill.target import DEPLOY, LOSE_HOST, SLOW_COLLECTOR
from tests.drills.runbook import find
from tests.drills.table import rows_of_page
from tests.observability.pace import in_seconds
from tests.observability.sources import rules

ALERTS = {rule["alert"] for rule in rules() if "alert" in rule}
STEPS = 3
WITHOUT = {"Watchdog", "SmokeRuns"}  # these tell of no incident
WITHOUT |= {"ErrorBudgetBurnsSlowly"}  # what burns it fast burns it slowly as well
WITHOUT |= {"DatabaseUnobserved", "DatabaseGrowsFast"}  # the cause is what the alert says
ONLY_IN_DRILLS = {
    "freeze keys",
    "expire keys",
    "set keys' clock",
    DEPLOY,
    LOSE_HOST,
    SLOW_COLLECTOR,
}  # what `make drill` has, and neither `make dev` nor the stack

of_each = pytest.mark.parametrize("incident", INCIDENTS.values(), ids=INCIDENTS)


@of_each
def test_an_incident_leads_from_its_alert_to_its_cause(incident: Incident) -> None:
    """It has a sign and one to three steps, and the runbook's section has the query of each."""
    assert re.fullmatch("[a-z]+(-[a-z]+)*", incident.name)
    assert incident.sentence.endswith(".")
    assert {incident.alert, *incident.also} <= ALERTS
    assert incident.signs
    assert 1 <= len(incident.steps) <= STEPS
    for step in incident.steps:
        assert find(step.query, incident.alert)


@of_each
def test_an_incident_can_be_made_by_hand(incident: Incident) -> None:
    """On `make dev`, the stack or a server of its own."""
    assert find_places(replace(incident, needs=incident.needs - ONLY_IN_DRILLS))


def test_each_alert_has_an_incident() -> None:
    """Whoever adds an alert makes what it is for, and is led to the cause."""
    assert ALERTS - {incident.alert for incident in INCIDENTS.values()} == WITHOUT


def test_the_page_has_the_incidents_and_their_alerts() -> None:
    """The table of docs/observe.md, which `make drill ARGS=--write` makes."""
    assert rows_of_page() == {incident.name: incident.alert for incident in INCIDENTS.values()}


def test_minutes_become_seconds() -> None:
    """Windows, waits and constants that are seconds; names and thresholds stay."""
    rule = "rate(a:rate5m[5m]) > 300 and sum_over_time(a[1h:5m]) * 300 > 10 and time() - b_seconds > 25200"
    assert (
        in_seconds(rule)
        == "rate(a:rate5m[5s]) > 300 and sum_over_time(a[60s:5s]) * 5 > 10 and time() - b_seconds > 420"
    )
    assert in_seconds("for: 5m\ninterval: 30s") == "for: 6500ms\ninterval: 500ms"
    assert in_seconds("pg_age_seconds{a='b'} > 600 and c offset 1d") == "pg_age_seconds{a='b'} > 10 and c offset 1440s"
