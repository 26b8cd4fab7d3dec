"""20 users take 50,000 steps at a steady rate: none meets another, and Prometheus has counted each of them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest
import yaml

from tests.examples.support import EXAMPLES
from tests.observability.servers import Prometheus, prometheus
from tests.observability.sources import JOB
from tests.postmaster import Postmaster
from tests.process import needed
from tests.replicas.cost import a_request, collecting, read
from tests.replicas.service import POOL_SIZE, PROCESSES, SERVER_CONNECTIONS, Service, run_service
from tests.replicas.users import USERS, Owner, act, owners
from tests.telemetry.scrapes import until

STEPS, RATE = 50_000, 500
CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND usename = 'tasks'"
COUNTED = f'sum by (method, handler, status) (http_requests_total{{handler=~"{EXAMPLES}.*"}}) > 0'
EACH = f'sum by (instance) (http_requests_total{{handler=~"{EXAMPLES}.*"}})'
Sent = Counter[tuple[str, str, int]]


class Walk(NamedTuple):
    """All steps, what Prometheus and PostgreSQL knew at their end, and what a request cost."""

    owners: list[Owner]
    counted: Sent
    each: list[int]
    pools: int
    connections: int
    rows: dict[str, int]
    cost: str


@pytest.fixture(scope="module")
def walk(own_postgres: Postmaster, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    needed("prometheus")
    own_postgres.start()
    folder = tmp_path_factory.mktemp("walk")
    with collecting() as collector:
        serving = run_service(own_postgres, folder, otel_exporter_otlp_endpoint=collector.url)
        with serving as service, scraping(service, folder) as running:
            walking = owners(service.port)
            before, began = read(service, collector), monotonic()
            act(walking, RATE, lambda owner: owner.steps < STEPS // len(USERS))
            seconds, after = monotonic() - began, read(service, collector)
            rate = f"{STEPS} steps, {STEPS / seconds:.0f} a second; each:\n"
            return finish(service, running, walking, rate + a_request(before, after, STEPS))


def finish(service: Service, running: Prometheus, walking: list[Owner], cost: str) -> Walk:
    """Wait until Prometheus has seen the last step, and ask for all that the tests look at."""
    counted = until(lambda: sums(running), lambda found: found.total() >= STEPS, seconds=30)
    each = [int(series["value"][1]) for series in running.query(EACH)]
    ((connections,),) = service.postmaster.ask(CONNECTIONS.format(service.database))
    pools = int(running.query("sum(db_client_connections_max)")[0]["value"][1])
    rows = dict(service.postmaster.ask("SELECT user_id, count(*) FROM example GROUP BY 1", service.database))
    return Walk(walking, counted, each, pools, connections, rows, cost)


@contextmanager
def scraping(service: Service, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the stack's configuration, which finds the processes as it finds replicas."""
    found = folder / "replicas.yml"
    found.write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{one.metrics_port}" for one in service.replicas]}]))
    with prometheus(folder, {JOB: found}) as running:
        yield running


def sums(running: Prometheus) -> Sent:
    """How many requests the processes have answered together, as Prometheus adds them up."""
    series = [(one["metric"], int(one["value"][1])) for one in running.query(COUNTED)]
    return Counter({(labels["method"], labels["handler"], int(labels["status"])): value for labels, value in series})


@pytest.mark.slow
def test_no_user_meets_another(walk: Walk) -> None:
    """No answer has a row of another user, and each is what its user's own steps led to, whichever process gave it.

    That is so in the database as well.
    """
    print(walk.cost)  # noqa: T201  for docs/scale.md
    assert sum(owner.steps for owner in walk.owners) == STEPS
    assert [row for owner in walk.owners for row in owner.foreign] == []
    assert [what for owner in walk.owners for what in owner.wrong] == []
    assert walk.rows == {owner.name: len(owner.rows) for owner in walk.owners if owner.rows}


@pytest.mark.slow
def test_the_sums_of_prometheus_are_what_was_sent(walk: Walk) -> None:
    """By method, route and status, to the last request; each of four processes has answered its part of them."""
    assert walk.counted == sum((owner.sent for owner in walk.owners), Counter())
    assert len(walk.each) == PROCESSES
    assert min(walk.each) > STEPS / PROCESSES / 2


@pytest.mark.slow
def test_pools_share_fewer_connections(walk: Walk) -> None:
    """The pools might hold 32 connections. PgBouncer gave them 12 or fewer, and nobody was refused."""
    assert walk.pools == PROCESSES * POOL_SIZE
    assert walk.connections <= SERVER_CONNECTIONS < walk.pools
