"""The origins that are no web site's, and request headers of a deployment's own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest

from tests.support import ORIGIN, Api
from tests.web.cases import AUTH
from tests.web.raw import exchange, request

LISTED = ["null", "tauri://localhost", "capacitor://localhost", "ionic://localhost", f"chrome-extension://{'abcd' * 8}"]
UNLISTED = ["tauri://other", "capacitor-electron://-", f"chrome-extension://{'dcba' * 8}", "NULL", "file://", ORIGIN]


@pytest.fixture
def api(serve: Callable[..., AbstractContextManager[Api]]) -> Iterator[Api]:
    origins = ",".join([*LISTED, "https://a.test"])
    with serve(cors_origins=origins, cors_headers="X-Team, x-datadog-trace-id") as running_api:
        yield running_api


def answers(api: Api, origin: str) -> tuple[httpx.Response, httpx.Response]:
    """Return what an origin gets for a request and for its preflight."""
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,traceparent"}
    with api.client(Origin=origin) as client:
        return client.get("/api/examples"), client.options("/api/examples", headers=asked)


def test_a_web_views_origin_is_one_like_any_other_where_it_is_listed(api: Api) -> None:
    """An application in a web view, an extension or a page without an origin may read, by the very bytes it sends."""
    for origin in LISTED:
        for answer in answers(api, origin):
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
            assert "Origin" in answer.headers["vary"]


def test_a_web_views_origin_that_is_not_listed_may_not_read(api: Api) -> None:
    """Nor is it echoed, however near it is to one that is listed."""
    for origin in UNLISTED:
        answer, preflight = answers(api, origin)
        assert (answer.status_code, preflight.status_code) == (200, 400)
        assert not {"access-control-allow-origin", "timing-allow-origin"} & {*answer.headers, *preflight.headers}
        assert origin not in [*answer.headers.values(), *preflight.headers.values()]


@pytest.mark.parametrize("first", [True, False])
def test_two_origins_let_no_other_one_read(api: Api, *, first: bool) -> None:
    """No browser sends two: the one that is not listed is never named."""
    pair = ["Origin: https://a.test", "Origin: https://evil.test"]
    answer = exchange(api.port, request("GET", "/api/examples", AUTH, *pair[:: 1 if first else -1]))
    assert answer.status == 200
    assert answer.headers.get("access-control-allow-origin") in {None, "https://a.test"}
    assert not any("evil" in value for value in answer.headers.values())


def test_more_request_headers_may_be_allowed(api: Api) -> None:
    """Those of CORS_HEADERS in any case, beside the usual ones; others stay refused."""
    wanted = {"x-team,authorization": 200, "X-Datadog-Trace-Id,if-match": 200, "x-team,x-odd": 400}
    with api.client(None, Origin="https://a.test") as client:
        for names, status in wanted.items():
            asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": names}
            assert client.options("/api/examples", headers=asked).status_code == status
