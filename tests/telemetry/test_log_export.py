"""Log lines reach a receiver as OTLP, in either encoding, and become events of their spans."""

import asyncio
import json
import logging
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import StringIO
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanContext, TraceFlags
from pydantic import ValidationError

from app.settings import Settings
from app.telemetry.log_export import LogExport
from app.telemetry.logs import Line
from tests.otlp_receiver import Receiver, Span
from tests.process import Process
from tests.support import Api, wait_until
from tests.telemetry.support import entries, router_of, server_span, stop
from tests.telemetry.test_team_signals import Rude

Serve = Callable[..., AbstractContextManager[Api]]
Run = Callable[..., AbstractContextManager[Process]]
PROTOCOLS = ["http/json", "http/protobuf"]

logger = logging.getLogger("team")


@contextmanager
def sending(url: str, protocol: str = "http/json", **given: Any) -> Iterator[LogExport]:
    """Send this process's lines to a receiver, ten times a second."""
    usual: dict[str, Any] = {"otel_blrp_schedule_delay": 100, "otel_logs_exporter": "otlp"}
    usual |= {"otel_exporter_otlp_endpoint": url, "otel_exporter_otlp_protocol": protocol}
    export = LogExport(Settings(**(usual | given)), "1.0")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    export.take_lines()
    try:
        yield export
    finally:
        asyncio.run(export.close())
        logger.setLevel(level)


def let_pytest_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take its handlers away: they lock, and no worker of xdist can report the lone surrogate that they would keep."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_lines_of_a_process_are_sent(run: Run, receiver: Receiver, protocol: str) -> None:
    """Each as standard output has it, in its trace, with the resource of the spans; what is queued at SIGTERM too."""
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    variables |= {"OTEL_LOGS_EXPORTER": "otlp", "OTEL_BLRP_SCHEDULE_DELAY": "60000", "OTEL_SERVICE_NAME": "ours"}
    with run(**variables) as process:
        with process.client() as alice:
            answer = alice.get("/api/examples/999")
        stop(process)
        written = {entry["message"]: entry for entry in entries(process)}
    sent = {line["message"]: line for line in receiver.lines}
    assert {"Application startup complete.", "GET /api/examples/{id} 404"} <= set(sent) <= set(written)
    line, entry = sent["GET /api/examples/{id} 404"], written["GET /api/examples/{id} 404"]
    named = {"message", "level"}
    assert line["attributes"] == {name: entry[name] for name in set(entry) - named - {"time", "trace_id", "span_id"}}
    assert (line["level"], line["severity"], line["flags"] & TraceFlags.SAMPLED) == ("INFO", 9, 1)
    assert (line["traceId"], line["spanId"]) == (entry["trace_id"], entry["span_id"])
    assert line["resource"] == server_span(receiver, answer)["resource"]
    assert line["resource"]["service.name"] == "ours"
    assert line["attributes"]["user_id"] == "alice"


def test_none_are_sent_unless_asked_for(run: Run, receiver: Receiver) -> None:
    """An endpoint alone is for spans."""
    with run(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url) as process:
        with process.client() as alice:
            alice.get("/api/examples")
        stop(process)
    assert set(receiver.paths) == {"/v1/traces"}


def test_the_sdks_own_switch_is_for_lines_too(receiver: Receiver) -> None:
    """OTEL_SDK_DISABLED sends none."""
    with sending(receiver.url, otel_sdk_disabled=True):
        logger.warning("not sent")
    assert receiver.bodies == []


def test_lines_need_an_endpoint() -> None:
    """Where none is named the start is refused: they would be lost without a word."""
    with pytest.raises(ValidationError, match="OTEL_LOGS_EXPORTER=otlp needs OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"):
        Settings(otel_logs_exporter="otlp")


def test_the_variables_for_logs_win(receiver: Receiver) -> None:
    """Endpoint, encoding, headers and compression of lines may be others than those of spans."""
    given = {"endpoint": f"{receiver.url}/otlp/v1/logs", "protocol": "http/protobuf", "headers": "x-key=a%20b"}
    with sending("http://127.0.0.1:1", **{f"otel_exporter_otlp_logs_{name}": value for name, value in given.items()}):
        logger.info("sent")
    headers = receiver.headers[0]
    assert (receiver.paths, headers["content-type"], headers["x-key"]) == (
        ["/otlp/v1/logs"],
        "application/x-protobuf",
        "a b",
    )


def write_everything() -> None:
    """Lines with all that one may hold."""
    circle: list[Any] = []
    circle.append(circle)
    extra: dict[str, Any] = {"number": 7, "big": 2**70, "half": 0.5, "yes": True, "none": None, "nan": math.nan}
    extra |= {"inf": math.inf, "nans": [math.nan], "lone": "a\ud800b", "deep": json.loads("[" * 300 + "]" * 300)}
    extra |= {"circle": circle, "bytes": b"\xff", "rude": Rude(), "object": {"lone\ud800": [1, "ü"]}, "n\udfff": 1}
    extra |= {"level": "gold", "trace_id": "theirs", "control": "\x00\x1b[2J", "": "no name"}
    logger.info("Ünï %s", "\ud800 🎉", extra=extra)
    logger.log(25, "a level of their own")
    logger.debug("stacked", stack_info=True)
    logger.critical("the end")
    logger.warning("plain")
    context = SpanContext(2**127, 2**63, is_remote=False, trace_flags=TraceFlags(1))
    logger.info("of a span", extra={"line": Line({"spent": {"database_ms": 1.5}}, context)})
    cause, error = KeyError("canary"), ValueError("canary")
    error.__cause__ = cause
    logger.error("failed", exc_info=error)


def test_both_encodings_show_the_same_lines(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON and protobuf bring the same lines, whatever they hold; the message of an exception is in neither."""
    let_pytest_keep_nothing(monkeypatch)
    seen = {}
    for protocol in PROTOCOLS:
        receiver.lines.clear()
        with sending(receiver.url, protocol) as export:
            write_everything()
        assert export.dropped == 0
        seen[protocol] = [json.dumps(line | {"time": line["time"] > 1.7e18}, sort_keys=True) for line in receiver.lines]
    assert seen["http/json"] == seen["http/protobuf"]
    assert b"canary" not in b"".join(receiver.bodies)
    lines = [json.loads(line) for line in seen["http/json"]]
    assert [line["severity"] for line in lines] == [9, 9, 5, 21, 13, 9, 17]
    first, fields = lines[0], lines[0]["attributes"]
    assert (first["message"], fields["lone"], fields["n?"], fields["nan"]) == ("Ünï ? 🎉", "a?b", 1, "nan")
    assert (fields["number"], fields["half"], fields["yes"], fields["big"]) == (7, 0.5, True, str(2**70))
    assert (fields["extra.level"], json.loads(fields["object"])["lone\ud800"]) == ("gold", [1, "ü"])
    assert (lines[5]["traceId"], lines[5]["spanId"]) == ("8" + "0" * 31, "8" + "0" * 15)
    assert json.loads(lines[5]["attributes"]["spent"]) == {"database_ms": 1.5}
    assert lines[6]["attributes"]["stack"].endswith("ValueError\ncaused by\nKeyError")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_long_line_is_cut(receiver: Receiver, protocol: str) -> None:
    """A megabyte of message and the longest fields are within what log stores take, and their names all arrive."""
    extra = {f"field{number}": "🎉" * 5_000 for number in range(40)}
    with sending(receiver.url, protocol):
        logger.info("x" * 2**20, extra=extra)
    (line,) = receiver.lines
    assert len(line["message"]) == 4097
    assert sum(len(f"{name}{value}".encode()) for name, value in line["attributes"].items()) < 64 * 1024
    assert len(line["attributes"]) == 34  # 32 fields, the logger, and how many were left out


def test_many_lines_are_bounded(receiver: Receiver, log: StringIO) -> None:
    """20,000 lines at once fill the queue and no more; each that is not sent is counted, and one line says so."""
    receiver.delay_s = 60
    with sending(receiver.url, otel_blrp_max_queue_size=600) as export:
        for number in range(20_000):
            logger.info("%d", number)
        assert 20_000 - 600 - 512 <= export.dropped <= 20_000
    assert log.getvalue().count('"message": "1 log lines dropped so far') == 1
    told = re.search(r'"message": "(\d+) log lines were dropped since the start', log.getvalue())
    assert told
    assert int(told[1]) >= 20_000


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_sender_does_not_send_what_it_says_itself(receiver: Receiver, log: StringIO, protocol: str) -> None:
    """A refusal is a line on standard output; sent, it would make another one."""
    receiver.status = 400
    with sending(receiver.url, protocol) as export:
        logger.info("refused")
        wait_until(lambda: export.dropped)
        wait_until(lambda: "400" in log.getvalue())
        receiver.status = 200
        logger.info("taken")
    sent = {line["message"] for line in receiver.lines if line["attributes"]["logger"] != "asyncio"}
    assert sent == {"taken", "1 log lines dropped so far: the collector does not take them"}


def test_a_line_that_cannot_be_made_costs_no_other(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs does not fail for it, and it is counted."""
    let_pytest_keep_nothing(monkeypatch)
    odd = logging.makeLogRecord({"name": "team", "levelno": logging.INFO, "created": "now"})
    logging.addLevelName(26, "\ud800")
    with sending(receiver.url) as export:
        logging.getLogger("team").handle(odd)
        logger.log(26, "a name that is no text")
        logger.info("good")
    sent = [line["message"] for line in receiver.lines if line["attributes"]["logger"] == "team"]
    assert (sent, export.dropped) == (["good"], 2)


class Talkative:
    """Its text cannot be made without a warning."""

    def __str__(self) -> str:
        logger.warning("asked for a text")
        return "text"


def test_a_warning_is_an_event_of_its_span(traced: Serve, receiver: Receiver) -> None:
    """As the code has it, without the values in its message; a line of INFO is none, nor one of an ended span."""

    def warn() -> None:
        logger.info("not this")
        logger.warning("no answer from %s", "canary", extra={"tries": 3, "hosts": ["a", "b"], "odd": "\ud800"})
        logger.error(ValueError("canary"))
        logging.getLogger("asyncio").error("first\ncanary")

    with sending(receiver.url, otel_logs_exporter="none"), traced([router_of(warn)]) as api, api.client() as alice:
        events = server_span(receiver, alice.get("/api/own"))["events"]
    assert [event["name"] for event in events] == ["log"] * 3
    told: list[Span] = [event["attributes"] for event in events]
    wanted = {"message": "no answer from %s", "level": "WARNING", "logger": "team", "tries": 3, "hosts": '["a", "b"]'}
    assert told[0] == wanted | {"odd": "?"}
    assert [event["message"] for event in told[1:]] == ["<ValueError>", "first"]
    assert b"canary" not in b"".join(receiver.bodies)


@pytest.mark.filterwarnings("ignore")
def test_a_warning_from_within_the_span_holds_nobody_up(receiver: Receiver) -> None:
    """What is logged while the span's own lock is held is no event: to wait for the lock would never end."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("s")
    with sending(receiver.url, otel_logs_exporter="none"), trace.use_span(span):
        span.set_attribute("odd", Talkative())  # type: ignore[arg-type]
        span.set_attributes({"odd": Talkative()})  # type: ignore[dict-item]
    assert span.is_recording()


class Slow:
    """Its text cannot be made before another thread has logged."""

    def __str__(self) -> str:
        other = Thread(target=logger.warning, args=("from another thread",), daemon=True)
        other.start()
        other.join(5)
        return "too late" if other.is_alive() else "in time"


def test_a_line_waits_for_no_other(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one thread makes the text of a line, another's is taken: else each could wait for the other."""
    let_pytest_keep_nothing(monkeypatch)
    with sending(receiver.url):
        logger.warning("%s", Slow())
    assert "in time" in {line["message"] for line in receiver.lines}
