"""The log names who is near the end of a budget: a bounded list, at once and then once a minute."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from app.ratelimit import heaviest
from tests.support import Api, statuses, wait_until

Serve = Callable[..., AbstractContextManager[Api]]


def lines(caplog: pytest.LogCaptureFixture) -> list[list[dict[str, Any]]]:
    """The users of each line."""
    return [vars(record)["users"] for record in caplog.records if record.name == "app.limits"]


def test_users_near_their_limit_are_named(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is refused most comes first, with what was used of which limit; who has much left is not there."""
    monkeypatch.setattr(heaviest, "TELL_EVERY_S", 0.5)
    caplog.set_level("INFO", "app.limits")
    with serve(rate_limit="100/minute") as api:
        for user, requests in {"calm": 80, "near": 85, "noisy": 140}.items():
            statuses([api.port], requests, user, connections=5)
        wait_until(lambda: {one["user_id"] for line in lines(caplog) for one in line} == {"near", "noisy"})
        wait_until(lambda: sum(one["refused"] for line in lines(caplog) for one in line) == 40)
    most = max((one for line in lines(caplog) for one in line), key=lambda one: one["used"])
    assert (most["user_id"], most["used"], most["limit"], most["share"]) == ("noisy", 140, "100 per 1 minute", 1.4)
    first = lines(caplog)[0][0]
    assert (first["user_id"], first["refused"]) == ("near", 0)
    assert 81 <= first["used"] <= 85


def test_the_list_is_bounded(serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten users are named, those that were refused most, however many there are; the others are counted."""
    monkeypatch.setattr(heaviest, "TELL_EVERY_S", 1.0)
    monkeypatch.setattr(heaviest, "MAX_KEPT", 15)
    caplog.set_level("INFO", "app.limits")
    with serve(rate_limit="5/minute") as api:
        for number in range(30):
            statuses([api.port], 10 if number % 6 == 0 else 5, f"user-{number}", connections=1)
        wait_until(lambda: sum(one["refused"] for line in lines(caplog) for one in line) == 25)
    assert max(map(len, lines(caplog))) <= 10
    last = lines(caplog)[-1]
    assert last == sorted(last, key=lambda one: -one["refused"])
