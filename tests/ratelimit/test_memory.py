"""What counting costs in memory, and what is counted of it."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from tests.support import Api

Serve = Callable[..., AbstractContextManager[Api]]

BAD = {"Authorization": "Bearer not.a.token"}


MILLION_STRANGERS = """
import asyncio, resource, threading
from pathlib import Path
from starlette.requests import Request
from app.auth import Principal
from app.ratelimit.limiter import RateLimited, RateLimits
from app.record import Record
from app.settings import Settings
from app.auth.tokens import InvalidToken

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

def request(host):
    return Request({"type": "http", "client": (host, 1), "headers": []})

def left():
    record = Record(1, principal=Principal("alice"))
    asyncio.run(limits.admit(record))
    return record.headers["RateLimit"]

def strangers(start, end):
    for number in range(start, end):
        asked.scope["client"] = (f"2001:{number >> 16:x}:{number & 0xffff:x}::1", 1)
        limits.count_failure(record, asked, failure)

limits = RateLimits(Settings(rate_limit="100/hour", rate_limit_unauthenticated="20/hour"))
asked, failure, record = request(""), InvalidToken(), Record(1)
first, before = left(), resident_mib()
strangers(0, 1_000_000)
after = resident_mib()
strangers(1_000_000, 1_200_000)
print(after - before, resident_mib() - after, threading.active_count(), first.split(";")[1], left().split(";")[1])
print(limits.failures["token_invalid"])
strangers(1_150_000, 1_150_001)
print(record.headers["RateLimit"].split(";")[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_strangers_take_little_memory() -> None:
    """1,000,000 addresses grow the process by at most 64 MiB and 200,000 more by none; no thread is started.

    A user's count is none of theirs to push out, and of their own the oldest go first.
    """
    ended = subprocess.run(
        [sys.executable, "-c", MILLION_STRANGERS], capture_output=True, text=True, timeout=120, check=True
    )
    growth, later, threads, first, last, failures, recent = ended.stdout.split()
    assert float(growth) < 64
    assert float(later) < 4
    assert (threads, first, last, failures) == ("1", "r=99", "r=98", "1200000")
    assert recent == "r=18"


def test_counters_tell_the_outcomes() -> None:
    """What a metrics page exports: allowed and limited requests, and failures by reason."""
    script = f"{MILLION_STRANGERS.split('limits =', maxsplit=1)[0]}{OUTCOMES}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.split() == ["{'allowed':", "2,", "'limited':", "2}", "{'token_invalid':", "2}"]


OUTCOMES: Any = """
from contextlib import suppress
limits = RateLimits(Settings(rate_limit="2/hour", rate_limit_unauthenticated="1/hour"))
for _ in range(3):
    with suppress(RateLimited):
        left()
for _ in range(2):
    with suppress(RateLimited):
        limits.count_failure(Record(1), request("192.0.2.1"), InvalidToken())
print(dict(limits.outcomes), dict(limits.failures))
"""
