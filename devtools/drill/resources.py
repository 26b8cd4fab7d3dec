"""Incidents of memory, sizes and connections."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import inf
from socket import create_connection
from threading import Event
from time import monotonic, sleep
from urllib.parse import urlsplit

from devtools.drill.incident import BUDGET, Incident, Load, Sign, Step, series
from devtools.drill.load import sending
from devtools.drill.target import FAULTY_CODE, FEW_FILES, LOSE_HOST, RESTART, SLOW_COLLECTOR, TRACE_MEMORY, Target
from devtools.traffic.actions import asking, list_rows

DEAF = "deaf"
CLIENTS, LEAVING = 40, 2
LEAVES_S = 3.0
TIMEOUT_S = 5.0
TRACED_S = 6.0
READS = 15  # a second
USUAL_S = 25.0  # of the usual answers, for the rule to compare with
LARGE = "/api/drill/large"


@contextmanager
def answers_grown(target: Target) -> Iterator[None]:
    """Let users read short answers of a route for a while, and then long ones, until the block ends."""
    with sending(target, Load(asking(f"{LARGE}?kib=1"), READS)):
        sleep(USUAL_S)
    with sending(target, Load(asking(f"{LARGE}?kib=60"), READS)):
        yield


ANSWERS_GROW = Incident(
    name="answers-grow",
    sentence="A release answers sixty times as much as before on one of its routes.",
    alert="ResponsesGrow",
    signs=(
        Sign("span", "http.response.body.size", r"61\d{3}"),
        Sign("line", "response_bytes", r"61\d{3}"),
        Sign("label", "handler", LARGE),
    ),
    steps=(
        Step("} / route:responses:rate5m{", series(r"\d{5,}.*", method="GET", handler=LARGE)),
        Step("group_by([.user_id, .route])", f'"user_id":"user-.*"route":"{LARGE}"'),
    ),
    needs=frozenset({FAULTY_CODE}),
    inject=answers_grown,
)


@contextmanager
def clients_deaf(target: Target) -> Iterator[None]:
    """Hold connections until the block ends whose clients read a byte a second, in a process that may have few."""
    stop = Event()
    with target.change(FEW_FILES), ThreadPoolExecutor(CLIENTS) as clients:
        try:
            for number in range(CLIENTS):
                clients.submit(read_slowly, target, stop, leaves_at=LEAVES_S if number < LEAVING else inf)
            yield
        finally:
            stop.set()


def read_slowly(target: Target, stop: Event, leaves_at: float) -> None:
    """Ask for a long answer, and read a byte of it a second; after `leaves_at` seconds leave, and do it again."""
    url = urlsplit(target.urls[0])
    header = "".join(f"{name}: {value}\r\n" for name, value in target.header(DEAF).items())
    while not stop.is_set():
        ends = monotonic() + leaves_at
        with suppress(OSError), create_connection((url.hostname, url.port), timeout=TIMEOUT_S) as connection:
            connection.sendall(f"GET /api/drill/stream HTTP/1.1\r\nHost: drill\r\n{header}\r\n".encode())
            while monotonic() < ends and connection.recv(1) and not stop.wait(1):
                pass
        stop.wait(1)


CLIENTS_DEAF = Incident(
    name="clients-deaf",
    sentence="Many clients read their answers at a byte a second, and the process runs out of connections.",
    alert="FilesRunOut",
    signs=(Sign("line", "client_ms", r"\d{4,}"), Sign("span", "app.client.wait_ms", r"\d{4,}")),
    steps=(
        Step("select(.client_ms)", f"{DEAF} /api/drill/stream"),
        Step('process_open_fds{job="task-api"} / process_max_fds{', series(r"0\.[89].*")),
    ),
    needs=frozenset({FAULTY_CODE, FEW_FILES}),
    inject=clients_deaf,
)

HOST_UNKNOWN = Incident(
    name="host-unknown",
    sentence="The name server does not know the database's name any more.",
    alert="DatabaseHostUnknown",
    signs=(
        Sign("line", "message", "the database's host .* cannot be looked up: .*"),
        Sign("line", "message", "the database is unavailable: HostNotFound.*"),
    ),
    steps=(
        Step('db_host_lookup_failures_total{job="task-api"}[15m]', series()),
        Step("cannot be looked up|HostNotFound", "the database's host .* cannot be looked up: .*"),
    ),
    also=BUDGET | {"DatabaseRefusesConnections"},
    needs=frozenset({LOSE_HOST}),
    inject=lambda target: target.change(LOSE_HOST),
)

COLLECTOR_SLOW = Incident(
    name="collector-slow",
    sentence="The collector takes each batch, but needs a second for it.",
    alert="TelemetryDropped",
    signs=(Sign("line", "message", r"\d+ spans dropped so far: the collector takes .* s"),),
    steps=(
        Step('otel_spans_dropped_total{job="task-api"}[5m]', series()),
        Step("otel_export_seconds_total", series(r"(0\.[5-9]|1).*", signal="traces")),
    ),
    needs=frozenset({SLOW_COLLECTOR}),
    inject=lambda target: target.change(SLOW_COLLECTOR),
    load=Load(list_rows, 8),
)


@contextmanager
def memory_kept(target: Target) -> Iterator[None]:
    """Let the process grow until the block ends, and trace its memory for some seconds, as the runbook says."""
    with target.change(RESTART), sending(target, Load(asking("/api/drill/leak"), 1)):
        with target.change(TRACE_MEMORY):
            sleep(TRACED_S)
        yield


MEMORY_KEPT = Incident(
    name="memory-kept",
    sentence="A release keeps something of each request for ever.",
    alert="MemoryGrows",
    signs=(Sign("line", "message", r"memory: .*; most of it by devtools/drill/faults\.py:.*"),),
    steps=(
        Step("deriv(process_resident_memory_bytes", series()),
        Step("app.telemetry.memory", r"devtools/drill/faults\.py:\d+: [\d,]{7,} bytes"),
    ),
    # While it is traced a request is several times as slow, and a drill's Prometheus waits half a second for a scrape.
    also=BUDGET | {"EventLoopLags", "ApiDown"},
    needs=frozenset({FAULTY_CODE, TRACE_MEMORY, RESTART}),
    inject=memory_kept,
)

INCIDENTS = (ANSWERS_GROW, CLIENTS_DEAF, HOST_UNKNOWN, COLLECTOR_SLOW, MEMORY_KEPT)
