"""What is cut when the process leaves, and what fails outside of the application, counts as what was answered, once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from prometheus_client.parser import text_string_to_metric_families as parse
from starlette.background import BackgroundTask
from starlette.convertors import CONVERTOR_TYPES, Convertor
from starlette.responses import Response

from tests.web.team import api_router, call_routers

Client = httpx.AsyncClient
Counted = dict[tuple[str, str, str], float]


async def requests(client: Client) -> Counted:
    """Return how often each status was counted, by method and handler, the scrapes aside."""
    families = {family.name: family for family in parse((await client.get("/metrics")).text)}
    found = [(sample.labels, sample.value) for sample in families["http_requests"].samples if sample.value]
    return {(of["method"], of["handler"], of["status"]): value for of, value in found if of["handler"] != "/metrics"}


def cut(
    router: APIRouter, waits: asyncio.Event, call: Callable[[Client], Awaitable[httpx.Response]]
) -> tuple[httpx.Response | None, Counted]:
    """Cancel a request once it waits, as a server does that leaves; return its answer and what was counted."""

    async def act(client: Client) -> tuple[httpx.Response | None, Counted]:
        asking = asyncio.ensure_future(call(client))
        await waits.wait()
        asking.cancel()
        try:
            answer = await asking
        except AssertionError:  # of httpx: the answer is not complete
            answer = None
        return answer, await requests(client)

    found: tuple[httpx.Response | None, Counted] = call_routers(router, act=act)
    return found


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if hasattr(record, "line")]
    return [line for line in lines if "/metrics" not in line]


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_that_is_cut_counts_as_its_answer(caplog: pytest.LogCaptureFixture, method: str) -> None:
    """503, under its route, and one line that says so; of a change it is told that it may have been made."""
    router, waits = api_router(), asyncio.Event()

    @router.api_route("/wait", methods=["GET", "POST"])
    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    answer, counted = cut(router, waits, lambda client: client.request(method, "/api/wait"))
    assert answer
    assert (answer.status_code, "not known" in answer.json()["detail"]) == (503, method == "POST")
    assert counted == {(method, "/api/wait", "503"): 1}
    assert logged(caplog) == [f"{method} /api/wait 503"]


def test_a_request_whose_body_is_on_its_way_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """No route has it yet, and nothing of it was done."""
    waits = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"{"
        waits.set()
        await asyncio.Event().wait()

    answer, counted = cut(api_router(), waits, lambda client: client.post("/api/examples", content=body()))
    assert answer
    assert (answer.status_code, "not known" in answer.json()["detail"]) == (503, False)
    assert counted == {("POST", "(overload)", "503"): 1}
    assert logged(caplog) == ["POST - 503"]


def test_a_stream_that_is_cut_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    """A 500, as any other answer that breaks off."""
    router, waits = api_router(), asyncio.Event()

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def lines() -> AsyncIterator[bytes]:
            yield b"first"
            waits.set()
            await asyncio.Event().wait()

        return StreamingResponse(lines())

    answer, counted = cut(router, waits, lambda client: client.get("/api/stream"))
    assert answer is None
    assert counted == {("GET", "/api/stream", "500"): 1}
    assert logged(caplog) == ["GET /api/stream 500"]


def test_work_after_the_answer_that_is_cut_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """The answer counts as what it was."""
    router, waits = api_router(), asyncio.Event()

    async def work() -> None:
        waits.set()
        await asyncio.Event().wait()

    @router.get("/works-on")
    async def works_on() -> Response:
        return Response(background=BackgroundTask(work))

    answer, counted = cut(router, waits, lambda client: client.get("/api/works-on"))
    assert answer
    assert answer.status_code == 200
    assert counted == {("GET", "/api/works-on", "200"): 1}
    assert logged(caplog) == ["GET /api/works-on 200"]
    assert "work after the answer failed: CancelledError" in caplog.messages


class Odd(Convertor[str]):
    """Raises for what it does not know, as no convertor should."""

    regex = ".*"

    def convert(self, value: str) -> str:
        raise LookupError(value)


def test_what_fails_outside_of_the_application_counts(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 that no route has: under a handler that objectives count, which is there before the first of them."""
    monkeypatch.setitem(CONVERTOR_TYPES, "odd", Odd())
    router = APIRouter()
    router.add_api_route("/odd/{name:odd}", lambda name: name)

    async def act(client: Client) -> tuple[httpx.Response, str, Counted]:
        before = (await client.get("/metrics")).text
        return await client.get("/odd/patient-4711"), before, await requests(client)

    found: Any = call_routers(router, act=act)
    answer, before, counted = found
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert counted == {("GET", "(failure)", "500"): 1}
    assert 'http_requests_total{handler="(failure)",method="GET",status="500"} 0.0' in before
    assert logged(caplog) == ["GET - 500"]
