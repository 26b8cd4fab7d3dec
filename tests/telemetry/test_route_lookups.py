"""However many routes a team has, telemetry does not try them one after the other again."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from re import Match, Pattern
from typing import Any

from tests.otlp_receiver import Receiver
from tests.support import Api
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import router_of, server_span
from tests.web.team import api_router

Serve = Callable[..., AbstractContextManager[Api]]


class Counted:
    """The pattern of a route, which notes what it is asked for."""

    def __init__(self, pattern: Pattern[str]) -> None:
        self._pattern, self.asked = pattern, list[str]()

    def match(self, path: str) -> Match[str] | None:
        self.asked.append(path)
        return self._pattern.match(path)


def test_a_route_is_looked_up_once_beside_fastapi(traced: Serve, receiver: Receiver) -> None:
    """A route that might match is tried by the gate and by FastAPI; span and metrics have the one that was found."""
    before = api_router()
    before.get("/{kind}/things")(lambda: None)
    route: Any = before.routes[0]
    route.path_regex = counted = Counted(route.path_regex)
    with traced([before, router_of(lambda: None)]) as api, api.client() as alice:
        answer = alice.get("/api/own")
        span = server_span(receiver, answer)
        told = scrape(alice).value("http_requests_total", method="GET", handler="/api/own", status="200")
    assert (answer.status_code, span["name"], span["attributes"]["http.route"]) == (200, "GET /api/own", "/api/own")
    assert told == 1
    assert counted.asked.count("/api/own") == 2
