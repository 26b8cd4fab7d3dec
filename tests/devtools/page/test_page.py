"""The development page without a browser: who may see it, what it keeps, and that production has none of it."""

import ast
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry, Counter
from typer.testing import CliRunner

from devtools.__main__ import cli
from devtools.page.door import find_fault
from devtools.page.now import Now
from devtools.page.replay import load
from devtools.page.store import MAX_BYTES, MAX_TRACES, Store
from tests.process import ROOT
from tests.support import Api, wait_until

FOLDER = ROOT / "devtools/page"
MAX_PYTHON, MAX_REST = 350, 900
PATHS = ["/_dev", "/_dev/", "/_dev/trace/1", "/_dev/page.js", "/_dev/data/changes", "/_dev/data/token?user=alice"]


def of_code(file: Path) -> int:
    """The lines of a module, without the empty ones, comments and docstrings."""
    text, documented = file.read_text(), set[int]()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            documented |= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in documented]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def test_the_page_is_small() -> None:
    """One page, one script, one style sheet, and few lines."""
    assert sum(of_code(file) for file in FOLDER.glob("*.py")) <= MAX_PYTHON
    rest = [FOLDER / f"page.{kind}" for kind in ("html", "js", "css")]
    assert sum(len(file.read_text().splitlines()) for file in rest) <= MAX_REST
    assert {file.suffix for file in FOLDER.iterdir() if file.is_file()} == {".py", ".html", ".js", ".css"}


def data(page: Api, what: str) -> Any:
    return httpx.get(f"{page.url}/_dev/data/{what}").raise_for_status().json()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "rebound.example:8000"}, 403),
        ({"Host": "localhost.example"}, 403),
        ({"Host": "localhost:8000", "Origin": "http://localhost:8000"}, 200),
        ({"Host": "localhost:8000", "Origin": "http://localhost:3000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Forwarded-For": "203.0.113.9"}, 403),
    ],
)
def test_only_this_machines_own_page_is_let_in(page: Api, headers: dict[str, str], status: int) -> None:
    """By its Host, its Origin and what a browser says of the site; a forwarded request comes from elsewhere."""
    with httpx.Client(base_url=page.url, headers=headers) as client:
        answers = [client.get(path) for path in PATHS]
        assert client.post("/_dev/data/token").status_code == (405 if status == 200 else 403)
    assert [answer.status_code for answer in answers] == [307 if status == 200 else 403, *[status] * 5]
    for answer in answers:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("peer", "is_let_in"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True)]
    + [(peer, False) for peer in ("10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "")],
)
def test_only_loopback_is_let_in(peer: str, *, is_let_in: bool) -> None:
    """Whatever the Host says: another machine may send any."""
    scope = {"type": "http", "client": (peer, 1), "headers": [(b"host", b"localhost:8000")], "scheme": "http"}
    assert (find_fault(scope) is None) == is_let_in


def test_production_has_no_page(stranger: httpx.Client) -> None:
    """What starts there imports nothing of it, and the path leads nowhere."""
    program = "import sys, app.__main__, app.serving; print([name for name in sys.modules if 'devtools' in name])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n", done.stderr
    assert stranger.get("/_dev/").status_code == 404


def test_a_request_is_kept_with_its_spans_lines_and_problem(page: Api) -> None:
    """What failed has the stack of its lines with the message, and the document that it was answered with."""
    with page.client() as alice:
        trace = alice.get("/api/say?words=NaN").headers["X-Trace-Id"]
        wait_until(lambda: len(data(page, f"trace/{trace}")["lines"]) == 4)
    kept = data(page, f"trace/{trace}")
    assert kept["spans"][-1]["name"] == "GET /api/say"  # there may be a wait before
    by_logger = {line["logger"]: line for line in kept["lines"] if "stack" in line or line["logger"] != "app.requests"}
    assert by_logger.keys() == {"team", "app.requests", "problem"}
    assert json.loads(by_logger["problem"]["message"])["trace_id"] == trace
    assert by_logger["app.requests"]["stack"].endswith("RuntimeError: NaN")
    assert httpx.get(f"{page.url}/_dev/data/trace/123").status_code == 404


def test_a_request_that_was_refused_before_its_span_is_kept(page: Api) -> None:
    """By its log line."""
    with page.client() as alice:
        refused = alice.post("/api/examples", content=b"x" * 2_000_000)
        assert refused.status_code == 413

    def find() -> list[Any]:
        lines = [line for trace in data(page, "changes")["traces"] if not trace["spans"] for line in trace["lines"]]
        return [line for line in lines if line["fields"]["status"] == 413]

    wait_until(find)


def test_what_changed_is_told_once(page: Api) -> None:
    """A page asks for what is new; a request that it knows comes again only if it changed."""
    with page.client() as alice:
        first = alice.get("/api/examples").headers["X-Trace-Id"]
        wait_until(lambda: data(page, f"trace/{first}")["lines"])
        last = data(page, "changes")["last"]
        second = alice.get("/api/examples").headers["X-Trace-Id"]
    assert [trace["id"] for trace in data(page, f"changes?after={last}")["traces"]] == [second]
    assert {first, second} <= {trace["id"] for trace in data(page, "changes?after=no")["traces"]}


def test_statements_are_counted_since_the_start(page: Api) -> None:
    """With what the page marks: one that a request sent again and again leads to that request."""
    with page.client() as alice:
        alice.get("/api/again", params={"times": 2})
        trace = alice.get("/api/again").headers["X-Trace-Id"]
    (found,) = [one for one in data(page, "statements") if one["text"] == "SELECT title FROM example LIMIT ?"]
    assert (found["calls"], found["repeated"], sum(found["steps"].values())) == (9, trace, 9)
    assert found["longest"] <= found["total"]


def test_the_numbers_are_the_registrys() -> None:
    """They are read when somebody looks, and not more often than every five seconds."""
    registry = CollectorRegistry()
    counter = Counter("seen", "What was seen.", ("kind",), registry=registry)
    now = Now(registry)
    counter.labels("bird").inc(3)
    (reading,) = now.look()
    counter.labels("bird").inc()
    assert now.look() == [reading]
    assert now.look(reading["at"]) == []
    assert reading["values"]["seen_total|bird"] == 3
    assert reading["values"]["process_resident_memory_bytes"] > 2**20
    assert Now(None).look() == []


def test_the_page_makes_tokens(page: Api) -> None:
    """Of any user there can be; of others it says what a user is."""
    token = data(page, "token?user=carol")["token"]
    answer = httpx.get(f"{page.url}/api/examples", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert "A user's id is" in data(page, "token?user=<b>")["error"]


def end_spans(store: Store, traces: int, plan: str) -> None:
    """End a request's span and two statements', so often."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(store)
    tracer = provider.get_tracer("test")
    for number in range(traces):
        with tracer.start_as_current_span("GET /x", kind=SpanKind.SERVER, attributes={"url.path": f"/x/{number}"}):
            for _ in range(2):
                statement = {"db.query.text": "SELECT 1", "app.db.plan": f"{number}{plan}"}
                tracer.start_span("SELECT", kind=SpanKind.CLIENT, attributes=statement).end()


@pytest.mark.parametrize("plan", ["", "p" * 16_000])
def test_memory_is_bounded(plan: str) -> None:
    """By the number of requests and by bytes, as Python counts them."""
    tracemalloc.start()
    store = Store()
    end_spans(store, MAX_TRACES + 100, plan)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    kept = len(store.changes(0)["traces"])
    assert size < MAX_BYTES * 1.05
    assert kept == MAX_TRACES if not plan else kept < MAX_TRACES


TRACE, SERVER, STATEMENT = "0a" * 16, "0b" * 8, "0c" * 8
TABLES = {"key": "app.db.plan.seq_scan_tables", "value": {"arrayValue": {"values": [{"stringValue": "x"}]}}}
SPANS = [
    {"traceId": TRACE, "spanId": SERVER, "parentSpanId": "", "name": "GET /x", "kind": 2}
    | {"startTimeUnixNano": "1000", "endTimeUnixNano": "9000", "status": {"code": 2, "message": "Boom"}}
    | {"attributes": [{"key": "http.response.status_code", "value": {"intValue": "500"}}]}
    | {"events": [{"name": "exception", "timeUnixNano": "2000"}]},
    {"traceId": TRACE, "spanId": STATEMENT, "parentSpanId": SERVER, "name": "SELECT x", "kind": 3}
    | {"startTimeUnixNano": "2000", "endTimeUnixNano": "8000"}
    | {"attributes": [{"key": "db.query.text", "value": {"stringValue": "SELECT 1"}}, TABLES]},
]
OTLP = {"resourceSpans": [{"scopeSpans": [{"spans": SPANS}]}]}
JAEGER_SPANS = [
    {"traceID": TRACE, "spanID": SERVER, "operationName": "GET /x", "references": [], "startTime": 1, "duration": 8}
    | {"logs": [{"timestamp": 2, "fields": [{"key": "event", "type": "string", "value": "exception"}]}]}
    | {
        "tags": [
            {"key": "span.kind", "type": "string", "value": "server"},
            {"key": "http.response.status_code", "type": "int64", "value": 500},
            {"key": "error", "type": "bool", "value": True},
            {"key": "otel.status_description", "type": "string", "value": "Boom"},
        ]
    },
    {"traceID": TRACE, "spanID": STATEMENT, "operationName": "SELECT x", "startTime": 2, "duration": 6, "logs": []}
    | {"references": [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": SERVER}]}
    | {
        "tags": [
            {"key": "span.kind", "type": "string", "value": "client"},
            {"key": "db.query.text", "type": "string", "value": "SELECT 1"},
            {"key": "app.db.plan.seq_scan_tables", "type": "string", "value": '["x"]'},
        ]
    },
]
JAEGER = {"data": [{"traceID": TRACE, "spans": JAEGER_SPANS}]}


@pytest.mark.parametrize(
    "text",
    [json.dumps(OTLP), json.dumps(JAEGER), f"{json.dumps(OTLP)}\n{json.dumps({'resourceSpans': []})}"],
    ids=["otlp", "jaeger", "lines"],
)
def test_a_saved_trace_is_read(tmp_path: Path, text: str) -> None:
    """As the exporter writes it, as a collector does, and as Jaeger gives it."""
    file = tmp_path / "trace.json"
    file.write_text(text)
    store = load(file)
    trace = store.trace(TRACE)
    assert trace
    server, statement = trace["spans"]
    assert (server["kind"], server["start"], server["end"], server["error"]) == ("SERVER", 1000, 9000, "Boom")
    assert (server["attributes"]["http.response.status_code"], server["events"][0][:2]) == (500, ("exception", 2000))
    assert (statement["parent"], statement["kind"]) == (server["id"], "CLIENT")
    assert store.statements()[0]["tables"] == ["x"]


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"resourceSpans": [1]}', '{"data": [{"spans": [{}]}]}'])
def test_what_is_no_trace_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    """Exit code 1, and nothing is served."""
    file = tmp_path / "none.json"
    file.write_text(text)
    done = CliRunner().invoke(cli, ["replay", str(file)])
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (1, "", 1), done.stderr
