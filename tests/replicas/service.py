"""The API as a production runs it: processes behind HAProxy that share one PgBouncer, one PostgreSQL and one Redis."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.haproxy import proxied, servers
from tests.pgbouncer import pgbouncer
from tests.postmaster import Postmaster
from tests.process import Process, free_port, needed, run_process
from tests.redis_server import Redis, run_redis
from tests.support import wait_until
from tests.telemetry.scrapes import Scrape, scrape

PROCESSES = 4
POOL_SIZE = 8  # of each process, as it is by default
SERVER_CONNECTIONS = 12  # of PgBouncer, for all of them
STARTS_S = 60
SLOW = """
    CREATE POLICY slow ON example AS RESTRICTIVE FOR SELECT USING (
        CASE WHEN user_id = current_setting('app.user_id', true) THEN pg_sleep({}) IS NOT NULL END
    )
"""


class Replica:
    """One process of the API. It may end and start again, at the same ports."""

    def __init__(self, ports: tuple[int, int], database_url: str, **variables: object) -> None:
        self.port, self.metrics_port = ports
        self._run = partial(run_process, database_url, port=self.port, metrics_port=self.metrics_port, **variables)
        self._running = ExitStack()
        self.process: Process

    def start(self) -> None:
        self.process = self._running.enter_context(self._run())

    def end(self) -> None:
        """Kill it, if it runs."""
        self._running.close()

    def leave(self) -> int:
        """Tell it to go. Return its exit code."""
        self.process.popen.terminate()
        code = self.process.popen.wait(30)
        self.end()
        return code

    def scrape(self) -> Scrape:
        with httpx.Client(base_url=f"http://127.0.0.1:{self.metrics_port}", timeout=10) as client:
            return scrape(client)


@dataclass(frozen=True)
class Service:
    """All of it. Users call HAProxy at `port`; `own` is the port at which it tells what it has found."""

    postmaster: Postmaster
    database: str
    redis: Redis
    replicas: Sequence[Replica]
    port: int
    own: int

    def start(self, replicas: Sequence[Replica]) -> None:
        """Start processes, one after the other, and wait until HAProxy has found each ready."""
        for replica in replicas:
            replica.start()
        wait_until(lambda: self.ready() >= {replica.port for replica in replicas}, STARTS_S)

    def slow_down(self, seconds: float) -> None:
        """Let each row of a user that is read take so long, without CPU: the database sleeps."""
        self.postmaster.ask(SLOW.format(seconds), self.database)

    def ready(self) -> set[int]:
        """The ports of the processes to which HAProxy hands requests."""
        return {port for port, server in servers(self.own).items() if server.status.startswith("UP")}


@contextmanager
def run_service(
    postmaster: Postmaster, folder: Path, started: int = PROCESSES, spare: int = 0, **variables: object
) -> Iterator[Service]:
    """Run the service until the block ends, on a database of its own.

    HAProxy knows of all its processes and of `spare` ones more. The first `started` of them run.
    """
    needed("haproxy"), needed("redis-server")
    name, ports = postmaster.new_database(), free_ports(2 * (PROCESSES + spare) + 1)
    with ExitStack() as stack:
        address = stack.enter_context(pgbouncer(postmaster, SERVER_CONNECTIONS))
        redis = stack.enter_context(run_redis())
        url = f"postgresql://tasks@{address}/{name}?sslmode=require"
        given = {"rate_limit_storage_uri": redis.uri, "forwarded_allow_ips": "127.0.0.1", "shutdown_delay_s": 3}
        own, pairs = ports.pop(), zip(ports[::2], ports[1::2], strict=True)
        replicas = [Replica(pair, url, **(given | variables)) for pair in pairs]
        for replica in replicas:
            stack.callback(replica.end)
        replicas[0].start()  # HAProxy waits for one
        client = stack.enter_context(proxied(folder, {one.port: one.metrics_port for one in replicas}, own))
        service = Service(postmaster, name, redis, replicas, client.base_url.port or 0, own)
        service.start(replicas[1:started])
        running = {replica.port for replica in replicas[:started]}
        wait_until(lambda: service.ready() == running, STARTS_S)  # HAProxy begins with the opinion that all are
        yield service


def free_ports(number: int) -> list[int]:
    """Return free ports, each another one."""
    found: set[int] = set()
    while len(found) < number:
        found.add(free_port())
    return list(found)
