"""What /metrics promises to whoever scrapes it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter

import httpx
import psycopg2
import pytest
from prometheus_client import REGISTRY

from tests.support import Api, make_token
from tests.telemetry.scrapes import scrape, until
from tests.web.raw import exchange, request

Serve = Callable[..., AbstractContextManager[Api]]
Lock = Callable[[], AbstractContextManager[Callable[[], None]]]
CONTRACT = {
    "admin_statements": ("counter", {"operation", "table"}),
    "auth_failures": ("counter", {"reason"}),
    "db_client_connection_wait_seconds": ("histogram", set()),
    "db_client_connection_checks": ("counter", {"step", "outcome"}),
    "db_client_connections": ("gauge", {"state"}),
    "db_client_connections_max": ("gauge", set()),
    "db_client_operation_duration_seconds": ("histogram", {"operation", "table"}),
    "db_errors": ("counter", {"code"}),
    "db_host_lookup_failures": ("counter", set()),
    "db_slow_queries": ("counter", {"operation", "table"}),
    "event_loop_lag_seconds": ("histogram", set()),
    "http_request_duration_seconds": ("histogram", {"method", "handler"}),
    "http_requests": ("counter", {"method", "handler", "status"}),
    "http_request_repeats": ("counter", set()),
    "http_request_statements": ("counter", {"method", "handler"}),
    "http_requests_in_progress": ("gauge", set()),
    "http_response_size_bytes": ("summary", {"method", "handler"}),
    "http_stream_duration_seconds": ("histogram", set()),  # `handler`, once there was one
    "http_streams_open": ("gauge", {"handler"}),
    "otel_export_batches": ("counter", {"signal"}),
    "otel_export_seconds": ("counter", {"signal"}),
    "otel_logs_dropped": ("counter", set()),
    "otel_spans_dropped": ("counter", set()),
    "rate_limit_requests": ("counter", {"outcome"}),
    "task_api_build": ("info", {"version", "revision"}),
    "worker_threads": ("gauge", {"state"}),
}


@pytest.fixture
def table_lock(database_url: str) -> Lock:
    """Keep everyone from the examples, so that whoever asks waits, until what is yielded is called."""

    @contextmanager
    def locked() -> Iterator[Callable[[], None]]:
        connection = psycopg2.connect(database_url.replace("+psycopg2", ""))
        try:
            with connection.cursor() as cursor:
                cursor.execute("LOCK TABLE example")
            yield connection.close
        finally:
            connection.close()

    return locked


@contextmanager
def asking(api: Api, times: int) -> Iterator[list[Future[httpx.Response]]]:
    """Ask for the examples so many times at once, and go on."""
    with api.client("alice") as client, ThreadPoolExecutor(times) as threads:
        yield [threads.submit(client.get, "/api/examples") for _ in range(times)]


def test_names_types_and_labels_are_the_contract(alice: httpx.Client) -> None:
    """Every metric has the name, type and labels that dashboards and rules are written for, and no other is there.

    Those of a team, and of Python, are in prometheus_client's default registry.
    """
    alice.get("/api/examples")
    others = {family.name for family in REGISTRY.collect()}
    found = {
        family.name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in scrape(alice).families
        if family.name not in others
    }
    assert found == CONTRACT


def test_the_process_is_measured(alice: httpx.Client) -> None:
    """CPU, memory, start and open files of this very process come along."""
    assert scrape(alice).value("process_resident_memory_bytes") > 2**24


def test_a_request_counts_under_its_route(alice: httpx.Client) -> None:
    """The handler is the template of the route, the status is exact, the time and size are the request's own."""
    example = alice.post("/api/examples", json={"title": "count me"}).json()
    answer = alice.get(f"/api/examples/{example['id']}")
    alice.get("/api/examples/999999")
    seen = scrape(alice)
    route = {"method": "GET", "handler": "/api/examples/{id}"}
    assert seen.value("http_requests_total", **route, status="200") == 1
    assert seen.value("http_requests_total", **route, status="404") == 1
    assert seen.value("http_request_duration_seconds_count", **route) == 2
    assert 0 < seen.value("http_request_duration_seconds_sum", **route) < 5
    assert seen.value("http_response_size_bytes_sum", **route) > len(answer.content)


def test_each_objective_has_a_bucket(alice: httpx.Client) -> None:
    """What takes a quarter of a second can be told from what takes longer."""
    assert scrape(alice).value("http_request_duration_seconds_bucket", handler="/api/examples", le="0.25") == 0


def test_failures_begin_at_zero(alice: httpx.Client) -> None:
    """Each route's documented answers are there before the first of them, so that its first failure is an increase."""
    paths = alice.get("/openapi.json").json()["paths"]
    seen = scrape(alice)
    for path, operations in paths.items():
        for method, operation in operations.items():
            for status in {*operation["responses"], "500"} - {"408", "413", "414", "431"}:
                labels = {"method": method.upper(), "handler": path, "status": status}
                assert seen.value("http_requests_total", **labels) == 0
    for code in (*"25006 40P01 53100 53200 53300 55P03 57014 57P01 57P02 57P03 08006".split(), "DeadlineExceeded"):
        assert seen.value("db_errors_total", code=code) == 0


def test_what_no_route_takes_is_one_handler(alice: httpx.Client) -> None:
    """Unknown paths and methods count under `none`, and are timed nowhere."""
    alice.get("/nothing/here")
    alice.get("/api/examples%0A")
    alice.put("/api/examples", json={})
    seen = scrape(alice)
    assert seen.value("http_requests_total", method="GET", handler="none", status="404") == 2
    assert seen.value("http_requests_total", method="PUT", handler="none", status="405") == 1
    assert not [s for s in seen.samples if s.name.startswith("http_request_d") and s.labels["handler"] == "none"]


def test_a_failure_that_nobody_expected_counts_as_500(alice: httpx.Client, database_url: str) -> None:
    """An error inside counts as the 500 that its client gets, with what the database called it."""
    with psycopg2.connect(database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE example RENAME TO gone")
    assert alice.get("/api/examples").status_code == 500
    seen = scrape(alice)
    assert seen.value("http_requests_total", handler="/api/examples", status="500") == 1
    assert seen.value("db_errors_total", code="42P01") == 1


def test_refused_tokens_count_by_reason(api: Api) -> None:
    """Each refusal of authentication counts under its error code; a good token does not."""
    expired = f"Bearer {make_token(exp=1)}"
    with api.client(None) as nobody:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": expired}, {"Authorization": expired}):
            assert nobody.get("/api/examples", headers=headers).status_code == 401
        seen = scrape(nobody)
    reasons = ("token_missing", "token_invalid", "token_expired")
    assert [seen.value("auth_failures_total", reason=reason) for reason in reasons] == [1, 1, 2]


def test_statements_count_by_operation_and_table(alice: httpx.Client) -> None:
    """Each statement is timed under its SQL command and its table."""
    alice.post("/api/examples", json={"title": "one"})
    alice.get("/api/examples")
    alice.get("/api/examples?q=o")
    seen = scrape(alice)
    name = "db_client_operation_duration_seconds_count"
    assert [seen.value(name, operation=o, table="example") for o in ("INSERT", "SELECT")] == [1, 2]


def test_slow_statements_are_counted(serve: Serve, table_lock: Lock) -> None:
    """What takes SLOW_QUERY_MS or more counts as slow, here with a failure; what is faster does not."""
    with serve(slow_query_ms=200, request_deadline_ms=1000) as api, api.client("alice") as alice:
        alice.get("/api/examples")
        assert scrape(alice).value("db_slow_queries_total", operation="SELECT", table="example") == 0
        with table_lock():
            assert alice.get("/api/examples").status_code == 503
        seen = scrape(alice)
    assert seen.value("db_slow_queries_total", operation="SELECT", table="example") == 1
    assert seen.value("db_client_operation_duration_seconds_count", operation="SELECT", table="example") == 2
    assert seen.value("db_errors_total", code="55P03") == 1


def test_a_dead_connection_is_an_error_with_a_name(alice: httpx.Client, database_url: str) -> None:
    """A connection that the server closed counts once, though the read that met it was answered."""
    alice.get("/api/examples")
    with psycopg2.connect(database_url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert alice.get("/api/examples").status_code == 200
    errors = [s for s in scrape(alice).samples if s.name == "db_errors_total" and s.value]
    assert [sample.value for sample in errors] == [1]


def test_saturation_shows_while_it_lasts(serve: Serve, table_lock: Lock) -> None:
    """Busy threads, used connections and requests under way are those of the moment; the waiters' wait is kept."""
    with serve(database_pool_size=2, request_deadline_ms=20_000) as api, api.client("alice") as alice:
        with table_lock() as release, asking(api, 4) as answers:
            seen = until(lambda: scrape(alice), lambda s: s.value("http_requests_in_progress") == 4)
            started = perf_counter()
            seen = until(lambda: scrape(alice), lambda s: s.value("db_client_connections", state="used") == 2)
            assert seen.value("worker_threads", state="busy") == 2
            assert seen.value("worker_threads", state="idle") == 0
            assert seen.value("db_client_connections_max") == 2
            until(lambda: perf_counter() - started, lambda seconds: seconds > 0.3)
            release()
        assert all(answer.result().status_code == 200 for answer in answers)
        seen = scrape(alice)
    assert seen.value("http_requests_in_progress") == 0
    assert seen.value("worker_threads", state="busy") == 0
    assert seen.value("db_client_connections", state="idle") == 2
    waited = "db_client_connection_wait_seconds"
    assert seen.value(f"{waited}_count") == 4
    assert seen.value(f"{waited}_count") - seen.value(f"{waited}_bucket", le="0.25") >= 2


def test_metrics_answer_while_every_thread_is_blocked(serve: Serve, table_lock: Lock) -> None:
    """A scrape waits for no worker thread: it is there within 100 ms."""
    with serve(database_pool_size=2, request_deadline_ms=20_000) as api, api.client("alice") as alice:
        with table_lock() as release, asking(api, 4) as answers:
            until(lambda: scrape(alice), lambda s: s.value("worker_threads", state="busy") == 2)
            seconds = [seconds_of(lambda: alice.get("/metrics")) for _ in range(3)]
            assert not any(answer.done() for answer in answers)
            release()
        assert min(seconds) < 0.1


def seconds_of(act: Callable[[], object]) -> float:
    started = perf_counter()
    act()
    return perf_counter() - started


DOOR = [
    ("413", request("POST", "/api/examples", "Content-Length: 200000")),
    ("414", request("GET", "/" + "a" * 9000)),
    ("431", request("GET", "/api/examples", *["a: b"] * 101)),
]


@pytest.mark.parametrize(("status", "raw"), DOOR, ids=[status for status, _ in DOOR])
def test_refusals_at_the_door_are_counted(api: Api, status: str, raw: bytes) -> None:
    """What is refused before a route is looked for counts all the same, by method and status, from 0 on."""
    labels = {"method": raw.partition(b" ")[0].decode(), "handler": "(door)", "status": status}
    with api.client(None) as nobody:
        assert scrape(nobody).value("http_requests_total", **labels) == 0
        assert exchange(api.port, raw).status == int(status)
        assert scrape(nobody).value("http_requests_total", **labels) == 1


def test_an_overload_is_counted(serve: Serve, table_lock: Lock) -> None:
    """A request refused because too many are under way counts, though it never reached a route."""
    overload = {"handler": "(overload)", "status": "503"}
    with serve(max_in_flight=1, request_deadline_ms=20_000) as api, api.client("alice") as alice:
        assert scrape(alice).value("http_requests_total", **overload) == 0
        with table_lock() as release, asking(api, 1):
            until(lambda: scrape(alice), lambda s: s.value("http_requests_in_progress") == 1)
            assert alice.get("/api/examples").json()["code"] == "overloaded"
            release()
        assert scrape(alice).value("http_requests_total", **overload) == 1
