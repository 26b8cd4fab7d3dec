"""Where alerts go: the real Alertmanager reads the shipped configuration, and hands on what a real Prometheus finds."""

import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.observability.alertmanager import OWN, Alertmanager, Receiver, alertmanager, receiving
from tests.observability.servers import prometheus
from tests.observability.sources import ALERTMANAGER, JOB, RUNBOOK, rules
from tests.process import free_port, needed
from tests.support import Api
from tests.telemetry.scrapes import until

ALERTS = {rule["alert"]: rule["labels"]["severity"] for rule in rules() if "alert" in rule}
BY_NAME = {"Watchdog": "watchdog", "SmokeRuns": "smoke"}
SECRETS = re.compile(r"(password|secret|credentials|api_url|token|routing_key|service_key): ")


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run([needed("amtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    """As it stands, and with each of its examples in use."""
    amtool("check-config", ALERTMANAGER)
    text = re.sub(r"^    # ", "    ", ALERTMANAGER.read_text(), flags=re.MULTILINE)
    (tmp_path / "alertmanager.yml").write_text(text)
    amtool("check-config", tmp_path / "alertmanager.yml")


def test_no_secret_is_in_the_file() -> None:
    """Examples included, each is named by a file of its own."""
    assert SECRETS.search("auth_password: x")
    assert not SECRETS.search(ALERTMANAGER.read_text())


@pytest.mark.parametrize(("alert", "severity"), ALERTS.items(), ids=ALERTS)
def test_an_alert_goes_where_its_severity_says(alert: str, severity: str) -> None:
    """`page` and `ticket` to the receivers of these names; the others to one of their own."""
    receiver = BY_NAME.get(alert, severity)
    labels = (f"alertname={alert}", f"severity={severity}", f"job={JOB}")
    amtool("config", "routes", "test", f"--config.file={ALERTMANAGER}", f"--verify.receivers={receiver}", *labels)


def test_what_it_names_exists() -> None:
    """Routes and inhibitions speak of alerts that there are."""
    named = re.findall(r"alertname =~? \"?([\w|]+)", ALERTMANAGER.read_text())
    assert len(named) > 6
    assert {alert for names in named for alert in names.split("|")} <= ALERTS.keys()


def addresses(receiver: Receiver) -> dict[str, str]:
    return {name: f"http://127.0.0.1:{receiver.server_port}/{name}" for name in OWN}


@pytest.mark.slow
def test_an_alert_arrives_with_its_links(tmp_path: Path) -> None:
    """A rule fires, and Alertmanager tells who is to know. What an outage explains is held back."""
    targets = {JOB: free_port(), "postgres": free_port()}  # nobody listens there
    with receiving() as receiver, alertmanager(tmp_path, addresses(receiver)) as alerts:
        targets["alertmanager"] = alerts.port
        with prometheus(tmp_path, targets, seconds_for_minutes=True) as running:
            until(lambda: receiver.received("page"), lambda found: ("ApiDown", JOB) in found, 30)
            until(lambda: receiver.received("ticket"), lambda found: ("TargetDown", "postgres") in found, 30)
            until(lambda: receiver.received("watchdog"), bool, 30)
            until(lambda: states(alerts, "TargetDown"), lambda s: s == {JOB: "suppressed", "postgres": "active"}, 30)
            assert ("TargetDown", JOB) not in receiver.received("ticket")
            (told,) = [one for one in receiver.alerts["page"] if one["labels"]["alertname"] == "ApiDown"]
            assert {"runbook_url", "dashboard_url"} < told["annotations"].keys()
            link = told["annotations"]["query_url"]
            assert httpx.get(link, follow_redirects=True).status_code == 200
            assert running.query(parse_qs(urlsplit(link).query)["g0.expr"][0])


def states(alerts: Alertmanager, name: str) -> dict[str, str]:
    """What becomes of the alerts of a name, by their job."""
    found = {tuple(sorted(labels)): state for labels, state in alerts.states().items()}
    return {dict(one)["job"]: state for one, state in found.items() if ("alertname", name) in one}


@pytest.mark.slow
def test_a_burning_budget_holds_back_what_it_explains(tmp_path: Path) -> None:
    """The slower alarm of the same objective, and the causes that the runbook leads to; nothing of another job."""
    fast = {"alertname": "ErrorBudgetBurnsFast", "job": JOB, "slo": "latency", "severity": "page"}
    slowly = fast | {"alertname": "ErrorBudgetBurnsSlowly", "severity": "ticket"}
    cause = {"alertname": "QueriesSlow", "job": JOB, "severity": "ticket"}
    held = [slowly, cause, cause | {"alertname": "PoolSaturated", "instance": "a"}]
    told = [fast, slowly | {"slo": "availability"}, cause | {"job": "other"}, cause | {"alertname": "TelemetryDropped"}]
    wanted = {frozenset(one.items()): "suppressed" for one in held} | {frozenset(one.items()): "active" for one in told}
    with alertmanager(tmp_path) as alerts:
        alerts.fire(*held, *told)
        until(alerts.states, lambda found: found == wanted, 10)


@pytest.mark.slow
def test_a_database_that_is_away_holds_back_what_it_explains(tmp_path: Path) -> None:
    """The full pool of the same job, and what the exporter misses; no other target."""
    away = {"alertname": "DatabaseUnanswering", "job": JOB, "severity": "page"}
    full, down = away | {"alertname": "PoolSaturated"}, {"alertname": "TargetDown", "job": "postgres"}
    held = [full, down, down | {"alertname": "DatabaseUnobserved"}]
    told = [away, full | {"job": "other"}, down | {"job": "loki"}]
    wanted = {frozenset(one.items()): "suppressed" for one in held} | {frozenset(one.items()): "active" for one in told}
    with alertmanager(tmp_path) as alerts:
        alerts.fire(*held, *told)
        until(alerts.states, lambda found: found == wanted, 10)


@pytest.mark.slow
def test_the_runbook_silences(tmp_path: Path) -> None:
    """Its commands hold an alert back, list the silence and end it."""
    slow = {"alertname": "QueriesSlow", "job": JOB, "severity": "ticket"}
    commands = re.findall(r"^docker compose exec alertmanager amtool (.*)$", RUNBOOK.read_text(), re.MULTILINE)
    add, query, expire = (command.replace("$USER", "me") for command in commands)
    with alertmanager(tmp_path) as alerts:
        alerts.fire(slow, slow | {"job": "other"})
        url = f"http://127.0.0.1:{alerts.port}"
        silence = amtool(*shlex.split(add.replace("http://localhost:9093", url))).strip()
        until(lambda: states(alerts, "QueriesSlow"), lambda s: s == {JOB: "suppressed", "other": "active"})
        assert silence in amtool(*shlex.split(query.replace("http://localhost:9093", url)), "--output=extended")
        amtool(*shlex.split(expire.replace("http://localhost:9093", url).replace("<id>", silence)))
        until(lambda: states(alerts, "QueriesSlow"), lambda s: s == {JOB: "active", "other": "active"})


@pytest.mark.slow
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["dead", "frozen"])
def test_without_it_all_else_goes_on(
    serve: Callable[..., AbstractContextManager[Api]], fault: signal.Signals, tmp_path: Path
) -> None:
    """Prometheus scrapes, evaluates and answers as before, and counts what it cannot hand on; so does the API serve."""
    with serve() as api, alertmanager(tmp_path) as alerts, api.client() as client:
        targets = {JOB: api.port, "alertmanager": alerts.port}
        with prometheus(tmp_path, targets) as running:
            until(alerts.states, bool, 20)
            alerts.process.send_signal(fault)
            until(lambda: running.query("prometheus_notifications_dropped_total > 0"), bool, 40)
            assert client.get("/api/examples").status_code == 200
            assert running.query(f'up{{job="{JOB}"}} == 1')
            assert running.query('ALERTS{alertname="Watchdog",alertstate="firing"}')
            found = [rule for group in running.get("/rules")["groups"] for rule in group["rules"]]
            assert {rule["health"] for rule in found} == {"ok"}
