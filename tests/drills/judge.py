"""Makes an incident, and judges what those on call would see of it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from math import isnan
from pathlib import Path
from threading import Event, Thread
from time import time
from typing import Any, NamedTuple

from psutil import Process

from devtools.drill.incident import Incident, Sign, Step
from devtools.drill.load import ORDINARY, sending
from devtools.drill.target import Target
from tests.drills.runbook import LINES_OF_API, Query, find, holds_after, queries
from tests.drills.servers import Servers
from tests.observability.pace import in_seconds
from tests.observability.servers import Prometheus, prometheus
from tests.observability.sources import JOB, rules
from tests.support import wait_until
from tests.telemetry.scrapes import until

POLL_S = 0.25
BUSY = 1.2  # processes that want to run, for each processor
QUIET_S = 20  # until Prometheus has a rate of everything
FIRES_S = 60
SHOWS_S = 15
STOPS_S = 90
AGE = re.compile(r"process_start_time_seconds > (\d+)")
AGES_S = 450


class Seen(NamedTuple):
    """The values of an incident's signs, and the lines that its steps led to."""

    signs: dict[Sign, str | None]
    steps: dict[Step, str | None]


class Alarms:
    """Which alerts have fired since the start, with their labels."""

    def __init__(self, prometheus: Prometheus) -> None:
        self._prometheus, self._stop = prometheus, Event()
        self.seen: dict[str, list[dict[str, str]]] = {}
        self.firing: set[str] = set()
        self._load = 0.0  # the highest so far: processes that want to run, over the last minute
        self._thread = Thread(target=self._watch, daemon=True)

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(10)

    def _watch(self) -> None:
        while not self._stop.wait(POLL_S):
            self._load = max(self._load, os.getloadavg()[0])
            alerts = [one["labels"] for one in self._prometheus.get("/alerts")["alerts"] if one["state"] == "firing"]
            for labels in alerts:
                told = self.seen.setdefault(labels["alertname"], [])
                told += [] if labels in told else [labels]
            self.firing = {labels["alertname"] for labels in alerts}

    def refuse_others(self, *expected: str) -> None:
        """Fail if any other alert has fired; but a machine that has too much else to do may be slow."""
        is_busy = self._load > BUSY * (os.cpu_count() or 1)
        others = {
            name: told
            for name, told in self.seen.items()
            if name not in {*expected, "Watchdog"} and not (is_busy and all(map(is_of_slowness, told)))
        }
        assert not others, others


def is_of_slowness(labels: dict[str, str]) -> bool:
    """Whether an alert is of what took too long; Redis has to answer within 0.2 s."""
    return labels["alertname"] in {"EventLoopLags", "RateLimiterOnFallback"} or labels.get("slo") == "latency"


class Judge:
    """Looks at the servers as they are, with what has been said since it began."""

    def __init__(self, servers: Servers, target: Target, running: Prometheus, alarms: Alarms) -> None:
        self._target, self._prometheus, self._alarms = target, running, alarms
        self._spans, self._first_span = servers.spans.spans, len(servers.spans.spans)
        self._replicas = servers.replicas  # of the moment: a deploy changes them
        self._starts = {replica.log: replica.log.stat().st_size for replica in self._replicas}

    def shows(self, sign: Sign) -> str | None:
        """Return the value of a sign, if it is there."""
        pattern = re.compile(self._fill(sign.value))
        holders = {"span": self._attributes, "line": self._lines, "label": self._labels}[sign.where]()
        values = (value for holder in holders if sign.key in holder for value in as_texts(holder[sign.key]))
        return next((value for value in values if pattern.fullmatch(value)), None)

    @property
    def _logs(self) -> dict[Path, int]:
        """The replicas' logs, and from where on they are read."""
        return self._starts | {one.log: self._starts.get(one.log, 0) for one in self._replicas}

    def _attributes(self) -> Iterator[dict[str, Any]]:
        return (span["attributes"] for span in self._spans[self._first_span :])

    def _labels(self) -> Iterator[dict[str, str]]:
        return (labels for told in self._alarms.seen.values() for labels in told)

    def _lines(self) -> Iterator[dict[str, Any]]:
        for log, start in self._logs.items():
            yield from (json.loads(line) for line in log.read_bytes()[start:].splitlines() if line.startswith(b"{"))

    def holds(self, step: Step, alert: str) -> str | None:
        """Return the line of a query's answer that holds what the step says, if there is one."""
        query = find(step.query, alert)
        found = re.search(self._fill(step.answer), self.run(query), re.MULTILINE)
        return found and found[0]

    def unmended(self, alert: str) -> list[str]:
        """Return the lines of the last queries of a section that do not say that it worked."""
        lines = [line for query in queries(alert, after=True) for line in self.run(query).splitlines()]
        values = {line: float(line.rpartition(" ")[2]) for line in lines}
        return [line for line, value in values.items() if not isnan(value) and not holds_after(alert)(value)]

    def run(self, query: Query) -> str:
        """Return the answer to a query of the runbook: a line a row."""
        if query.language == "promql":
            return "\n".join(line_of(series) for series in self._prometheus.query(in_seconds(query.text)))
        if query.language == "sql":
            return self._target.ask(query.text)
        logs = "; ".join(f"tail -c +{start + 1} '{log}'" for log, start in self._logs.items())
        command = LINES_OF_API.sub(lambda _: f"{{ {logs}; }}", query.text)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=20, check=False)
        assert not done.stderr, done.stderr
        return done.stdout

    def _fill(self, pattern: str) -> str:
        return pattern.replace("{table}", self._target.table)


def as_texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def line_of(series: dict[str, Any]) -> str:
    return f"{json.dumps(series['metric'], separators=(',', ':'))} {series['value'][1]}"


@contextmanager
def observed(servers: Servers, target: Target, folder: Path) -> Iterator[tuple[Prometheus, Alarms]]:
    """Let ordinary users ask, and a Prometheus of its own watch; begin when it has rates, and nothing fires."""
    with (
        prometheus(folder, {JOB: servers.discovery, **servers.targets}, seconds_for_minutes=True) as running,
        sending(target, ORDINARY),
    ):
        until(lambda: running.query("slo:requests:rate5m > 5"), lambda found: len(found) == 2, QUIET_S)
        alarms = Alarms(running)
        servers.prometheus = running
        try:
            with alarms.watched():
                until(lambda: alarms.firing, lambda firing: firing == {"Watchdog"}, QUIET_S)
                yield running, alarms
        finally:
            servers.prometheus = None


def age_for(alert: str) -> float:
    """How old a process must be for the alert, in seconds; the incident that asks for most is the last one."""
    (expression,) = [rule["expr"] for rule in rules() if rule.get("alert") == alert]
    found = AGE.search(in_seconds(expression))
    return float(found[1]) if found else 0.0


def judge(incident: Incident, servers: Servers, folder: Path) -> Seen:
    """Make an incident, and assert that it is alerted, shown and led to, and that the alert ends with it.

    Return what was seen.
    """
    wait_until(lambda: time() - Process(servers.replicas[0].pid).create_time() > age_for(incident.alert), AGES_S)
    target = servers.target()
    with observed(servers, target, folder) as (running, alarms):
        looking = Judge(servers, target, running, alarms)
        with ExitStack() as fault:
            fault.enter_context(incident.inject(target))
            if incident.load:
                fault.enter_context(sending(target, incident.load))
            until(lambda: alarms.firing, lambda firing: incident.alert in firing, FIRES_S)
            signs = {sign: until(partial(looking.shows, sign), bool, SHOWS_S) for sign in incident.signs}
            for query in queries(incident.alert):
                looking.run(query)
            steps = {
                step: until(partial(looking.holds, step, incident.alert), bool, SHOWS_S) for step in incident.steps
            }
        until(lambda: alarms.firing, lambda firing: incident.alert not in firing, STOPS_S)
        until(partial(looking.unmended, incident.alert), lambda found: found == [], STOPS_S)
    alarms.refuse_others(incident.alert, *incident.also)
    return Seen(signs, steps)
