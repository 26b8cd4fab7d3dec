"""What a request costs each program on its way: CPU, and what is sent and written about it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil

from tests.replicas.service import Service
from tests.support import run_handler

Readings = dict[str, float]

PROGRAMS = {
    Path(sys.executable).name: "the API",
    "postgres": "PostgreSQL",
    "pgbouncer": "PgBouncer",
    "redis-server": "Redis",
    "haproxy": "HAProxy",
}
CLIENTS = "the users and the collector of spans"  # this process


class Collector:
    """Who takes spans, and counts them."""

    def __init__(self) -> None:
        self.spans = self.bytes = 0
        self.url = ""

    def take(self, body: bytes) -> None:
        self.spans += body.count(b'"spanId"')
        self.bytes += len(body)


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with run_handler(Handler) as port:
        collector.url = f"http://127.0.0.1:{port}"
        yield collector


def read(service: Service, collector: Collector) -> Readings:
    """Everything that has been used, sent and written so far."""
    statistics = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{service.database}'"
    ((transactions,),) = service.postmaster.ask(statistics)
    scripts = service.redis.run("INFO", "commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    return {
        **cpu(),
        "PostgreSQL, transactions": transactions,
        "Redis, scripts": scripts,
        "spans": collector.spans,
        "bytes of spans": collector.bytes,
        "log lines": sum(replica.process.output().count("\n") for replica in service.replicas),
        "bytes of log lines": sum(os.fstat(replica.process.log.fileno()).st_size for replica in service.replicas),
    }


def cpu() -> Readings:
    """The microseconds of CPU of each program, user and system, those of its children that ended too."""
    used = dict.fromkeys((*PROGRAMS.values(), CLIENTS), 0.0)
    for process in psutil.Process().children(recursive=True):
        if name := PROGRAMS.get(process.name()):
            used[name] += sum(process.cpu_times()[:4]) * 1e6
    used[CLIENTS] = sum(psutil.Process().cpu_times()[:2]) * 1e6
    return {f"{name}, CPU us": value for name, value in used.items()}


def a_request(before: Readings, after: Readings, requests: int) -> str:
    """What one of `requests` cost, a line a reading."""
    return "\n".join(f"{(after[name] - before[name]) / requests:10.2f}  {name}" for name in before)
