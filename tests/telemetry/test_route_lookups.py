"""However many routes a team has, telemetry does not try them one after the other again."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from fastapi import APIRouter
from starlette.routing import Match
from starlette.types import Scope

from app.web.route import ApiRoute
from tests.otlp_receiver import Receiver
from tests.support import Api
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import router_of, server_span

Serve = Callable[..., AbstractContextManager[Api]]


def test_a_route_is_looked_up_once_beside_fastapi(traced: Serve, receiver: Receiver) -> None:
    """A route that might match is tried by the gate and by FastAPI; span and metrics have the one that was found."""
    asked: list[str] = []

    class Counted(ApiRoute):
        def matches(self, scope: Scope) -> tuple[Match, Scope]:
            asked.append(scope["path"])
            return super().matches(scope)

    before = APIRouter(prefix="/api", route_class=Counted)
    before.get("/{kind}/things")(lambda: None)
    with traced([before, router_of(lambda: None)]) as api, api.client() as alice:
        answer = alice.get("/api/own")
        span = server_span(receiver, answer)
        counted = scrape(alice).value("http_requests_total", method="GET", handler="/api/own", status="200")
    assert (answer.status_code, span["name"], span["attributes"]["http.route"]) == (200, "GET /api/own", "/api/own")
    assert counted == 1
    assert asked.count("/api/own") == 2
