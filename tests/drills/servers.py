"""The servers that the incidents break: the application, its PostgreSQL, Redis, and who takes its telemetry."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from devtools.drill.places import postmaster_of
from devtools.drill.target import (
    DEPLOY,
    FAULTY_CODE,
    FEW_FILES,
    LOSE_HOST,
    RESTART,
    SLOW_COLLECTOR,
    TRACE_MEMORY,
    Change,
    Target,
    few_files,
    frozen,
    memory_traced,
)
from devtools.examples.schema import migrate
from devtools.postgres import Server, postgres
from devtools.postgres.home import prepare_folders
from tests.drills.keys import behaving, expired, fast, run_keys, token, trust
from tests.key_server import KeyServer, hang
from tests.nameserver import NAME, Nameserver, asking_it
from tests.observability.alertmanager import Alertmanager, alertmanager
from tests.observability.servers import Prometheus
from tests.otlp_receiver import Receiver, run_receiver
from tests.process import ROOT, environment, free_port
from tests.programs import run_program
from tests.proxy import Proxy, run_proxy
from tests.redis_server import Redis
from tests.support import answers, run_server, wait_until

NUMBERS = count(1)
COLLECTION, TABLE = "/api/examples", "example"
# What a deployment would have in seconds or thousands.
PACE = {
    "otel_bsp_schedule_delay": 200,
    "otel_bsp_max_queue_size": 128,
    "otel_bsp_max_export_batch_size": 64,
    "otel_blrp_schedule_delay": 200,
    "otel_blrp_max_queue_size": 128,
    "otel_blrp_max_export_batch_size": 64,
    "otel_exporter_otlp_timeout": 2,
}
EXPORTER = "postgres_exporter"  # as the stack runs it: .ci/run builds it
EXPORTS = (
    "--collector.stat_statements",
    "--collector.stat_statements.include_query",
    "--collector.stat_statements.limit=50",
    "--collector.stat_statements.query_length=500",
    "--collector.long_running_transactions",
)


@dataclass
class Replica:
    """A process of the application at a port that stays the same. Its lines are in a file."""

    variables: dict[str, str]
    log: Path
    before: Sequence[str] = ()  # the command, and becomes it
    port: int = field(default_factory=free_port)
    popen: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.popen
        return self.popen.pid

    def start(self, **variables: str) -> None:
        command = [*self.before, sys.executable, "-m", "devtools.drill", "serve"]
        env = self.variables | {"PORT": str(self.port)} | variables
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            wait_until(self.is_ready, seconds=60)
        except AssertionError:
            self.popen.kill()
            self.popen.wait()
            raise

    def is_ready(self) -> bool:
        assert self.popen
        assert self.popen.poll() is None, self.log.read_text()[-2000:]
        return answers(f"{self.url}/health/ready")

    def stop(self) -> None:
        """Let it answer what it has begun, and wait until it has ended."""
        if self.popen:
            self.popen.terminate()
            self.popen.wait(15)
            self.popen = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()


@dataclass
class Servers:
    """All of them, running."""

    database: Server
    programs: Path  # of PostgreSQL
    redis: Redis
    keys: KeyServer
    spans: Receiver
    lines: Receiver
    alertmanager: Alertmanager
    exporter: "subprocess.Popen[bytes] | None"
    targets: dict[str, int | Path]  # of Prometheus, beside the application
    variables: dict[str, str]
    folder: Path
    names: Nameserver | None = None  # the only one that the application asks, if it knows its database by name
    proxy: Proxy | None = None  # of that name
    replicas: list[Replica] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    prometheus: Prometheus | None = None  # which watches them

    @property
    def discovery(self) -> Path:
        """The file in which Prometheus finds the replicas."""
        return self.folder / "replicas.json"

    def target(self) -> Target:
        """What incidents are made on."""
        changes: dict[str, Change] = {
            FAULTY_CODE: nullcontext,
            FEW_FILES: partial(few_files, self.replicas[0].pid),
            DEPLOY: self.deployed,
            RESTART: partial(replaced, self),
            TRACE_MEMORY: partial(memory_traced, self.replicas[0].pid),
            SLOW_COLLECTOR: partial(slow, self.spans),
            "stop redis": partial(redis_stopped, self.redis),
            "freeze postgres": frozen(postmaster_of(self.database)),
            "freeze jaeger": partial(silent, self.spans),
            "freeze loki": partial(silent, self.lines),
            "freeze alertmanager": frozen(self.alertmanager.process.pid),
            "freeze keys": partial(behaving, self.keys, hang),
            "expire keys": partial(expired, self.keys, self.folder),
            "set keys' clock": partial(fast, self.keys),
            "stop api": partial(all_stopped, self.replicas),
        }
        if self.names and self.proxy:
            changes[LOSE_HOST] = partial(host_lost, self.names, self.proxy)
        if self.exporter:
            changes["freeze postgres-exporter"] = frozen(self.exporter.pid)
        psql = (str(self.programs / "psql"), self.database.superuser_url("tasks").replace("+psycopg2", ""))
        return Target(self.urls, COLLECTION, TABLE, self.authorization, psql, changes, "")

    def start(self, **variables: str) -> None:
        """Start one more replica, and wait until Prometheus has found it."""
        before = asking_it(self.folder) if self.names else ()
        replica = Replica(self.variables, self.folder / f"lines-{next(NUMBERS)}.jsonl", before)
        replica.start(**variables)
        self.replicas.append(replica)
        self._discover()
        if watching := self.prometheus:
            wait_until(lambda: watching.query(f'up{{instance="127.0.0.1:{replica.port}"}} == 1'), seconds=20)

    def stop(self) -> None:
        """Stop the oldest replica, which Prometheus then does not look for."""
        replica = self.replicas.pop(0)
        self._discover()
        replica.stop()

    @contextmanager
    def deployed(self) -> Iterator[None]:
        """Let another revision serve in place of this one."""
        self.start(REVISION="next")
        self.stop()
        try:
            yield
        finally:
            self.start()
            self.stop()

    def _discover(self) -> None:
        self.urls[:] = [replica.url for replica in self.replicas]
        targets = [f"127.0.0.1:{replica.port}" for replica in self.replicas]
        new = self.discovery.with_suffix(".new")
        new.write_text(json.dumps([{"targets": targets}]))
        new.rename(self.discovery)

    def authorization(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token(self.keys, user)}"}


@contextmanager
def redis_stopped(server: Redis) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def silent(receiver: Receiver) -> Iterator[None]:
    """Let a receiver take what is sent, and never answer."""
    receiver.delay_s = 60
    try:
        yield
    finally:
        receiver.delay_s = 0


@contextmanager
def slow(receiver: Receiver) -> Iterator[None]:
    """Let a receiver take its time, but not so much that the sender gives up."""
    receiver.delay_s = 1.2
    try:
        yield
    finally:
        receiver.delay_s = 0


@contextmanager
def host_lost(names: Nameserver, proxy: Proxy) -> Iterator[None]:
    """Let nobody know the database's name, nor have a connection that it had before."""
    names.knows_name = False
    proxy.cut()
    try:
        yield
    finally:
        names.knows_name = True


@contextmanager
def replaced(servers: Servers) -> Iterator[None]:
    """Let a new replica serve in place of each when the block ends."""
    try:
        yield
    finally:
        for _ in [*servers.replicas]:
            servers.start()
            servers.stop()


@contextmanager
def all_stopped(replicas: list[Replica]) -> Iterator[None]:
    with ExitStack() as stack:
        for replica in replicas:
            stack.enter_context(replica.stopped())
        yield


@contextmanager
def exporting(database: Server) -> Iterator[tuple[int, "subprocess.Popen[bytes]"] | None]:
    """Run postgres_exporter as the stack does, if it is there. Yield its port and its process."""
    if (program := which(EXPORTER)) is None:
        yield None
        return
    port = free_port()
    command = [program, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error", *EXPORTS]
    url = database.superuser_url("tasks").replace("+psycopg2", "") + "&sslmode=disable"
    with run_program(command, port, "/metrics", env={"DATA_SOURCE_NAME": url}) as (process, _):
        yield port, process


@contextmanager
def run_servers(folder: Path, *, by_name: bool = False) -> Iterator[Servers]:
    """Run them until the block ends; the application may know its database by a name, as in the stack."""
    with (
        ExitStack() as stack,
        TemporaryDirectory(prefix="r") as short,  # pytest's own may be too long for a socket's path
        postgres(folder / "postgres", durable=False) as database,
        run_keys(folder) as keys,
        run_receiver() as spans,
        run_receiver() as lines,
        alertmanager(folder) as alerts,
        exporting(database) as exporter,
    ):
        migrate(database.url())
        programs = prepare_folders(folder / "postgres")[1]
        redis = Redis(Path(short))
        redis.start()
        targets: dict[str, int | Path] = {"alertmanager": alerts.port}
        targets |= {"postgres": exporter[0]} if exporter else {}
        own, popen = variables(database, keys, redis, spans, lines, trust(folder)), exporter and exporter[1]
        running = Servers(database, programs, redis, keys, spans, lines, alerts, popen, targets, own, folder)
        if by_name:
            running.names = stack.enter_context(run_server(Nameserver()))
            running.proxy = stack.enter_context(run_proxy(database.socket))
            own["DATABASE_URL"] = running.proxy.url("tasks", host=NAME)
        try:
            running.start()
            yield running
        finally:
            while running.replicas:
                running.stop()
            redis.stop()


def variables(
    database: Server, keys: KeyServer, redis: Redis, spans: Receiver, lines: Receiver, trusted: Path
) -> dict[str, str]:
    """The environment of the application, with its own limits."""
    return environment(
        database.url(),
        better_auth_url=keys.url,
        ssl_cert_file=trusted,
        rate_limit="100/minute",
        rate_limit_unauthenticated="20/minute",
        rate_limit_storage_uri=redis.uri,
        otel_exporter_otlp_endpoint=spans.url,
        otel_exporter_otlp_logs_endpoint=f"{lines.url}/v1/logs",
        otel_logs_exporter="otlp",
        log_format="json",
        **PACE,
    )
