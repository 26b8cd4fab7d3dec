"""What a scrape gets: from whom it is taken, in which form, and what it says of the process."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import httpx
import pytest

from app.settings import Settings, SettingsError
from app.telemetry.event_loop import EventLoopWatch
from app.telemetry.metrics import Metrics
from tests.support import Api, make_token
from tests.telemetry.scrapes import OPENMETRICS, parse, scrape, until

Serve = Callable[..., AbstractContextManager[Api]]
Lock = Callable[[], AbstractContextManager[Callable[[], None]]]
TOKEN = "scraper-0123456789abcdef"
NOT_THE_TOKEN = (
    b"",
    b"Bearer",
    f"Basic {TOKEN}".encode(),
    f"Bearer {TOKEN[:-1]}".encode(),
    f"Bearer {TOKEN}x".encode(),
    b"Bearer \xff\xfe",
)
ACCEPTS = (
    b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    b"application/openmetrics-text; version=2.0.0",
    b"application/openmetrics-text; version=abc",
    b"application/openmetrics-text; version=; escaping=values",
    b"application/openmetrics-text;version=9999999999999999999999.1.1; escaping=allow-utf-8",
    b"text/plain; version=x.y; escaping=dots",
    b"text/html",
    b",;=,;;q=q=q",
    b"",
    b"a" * 20_000,
    b"\xff\xfe",
)


def test_the_event_loop_is_watched(alice: httpx.Client) -> None:
    """Its lag is measured all the time, with nobody asking for anything."""
    until(lambda: scrape(alice).value("event_loop_lag_seconds_count"), lambda count: count >= 2)


def test_a_blocked_event_loop_is_seen() -> None:
    """What keeps the loop from its work shows as lag, as long as it lasted."""
    metrics = Metrics(Settings(), "1", ())

    async def block() -> None:
        async with EventLoopWatch(metrics.loop_lag.observe).running():
            await asyncio.sleep(0)  # the watcher begins
            time.sleep(0.6)
            await asyncio.sleep(0.01)

    asyncio.run(block())
    assert metrics.registry.get_sample_value("event_loop_lag_seconds_bucket", {"le": "0.25"}) == 0
    assert metrics.registry.get_sample_value("event_loop_lag_seconds_bucket", {"le": "2.5"}) == 1


def test_the_build_is_named(serve: Serve) -> None:
    """Version and revision tell which deployment a series is from."""
    with serve(revision="4f2c1e9") as api, api.client() as client:
        version = client.get("/openapi.json").json()["info"]["version"]
        assert scrape(client).value("task_api_build_info", version=version, revision="4f2c1e9") == 1


def test_two_applications_share_nothing(serve: Serve) -> None:
    """Requests to one application are not seen by another of the same process."""
    with serve() as one, serve() as other, one.client() as client, other.client() as bystander:
        client.get("/api/examples")
        answered = {"handler": "/api/examples", "status": "200"}
        counted = [scrape(c).value("http_requests_total", **answered) for c in (client, bystander)]
        statements = [s.value for s in scrape(bystander).samples if s.name.startswith("db_client_operation")]
    assert (counted, sum(statements)) == ([1, 0], 0)


def test_any_accept_header_gets_an_answer(alice: httpx.Client) -> None:
    """Whatever is asked for, the answer is one of the two formats and says which."""
    for accept in ACCEPTS:
        response = alice.get("/metrics", headers=[(b"Accept", accept)])
        assert response.status_code == 200
        assert "http_requests" in {family.name for family in parse(response)}
        is_openmetrics = (
            response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        )
        assert is_openmetrics == (b"openmetrics" in accept)


def test_many_scrapes_at_once_are_all_answered(api: Api) -> None:
    """Fifty scrapes at once are fifty whole answers, and users are served meanwhile."""
    with api.client() as client, ThreadPoolExecutor(50) as threads:
        scrapes = [threads.submit(client.get, "/metrics", headers=OPENMETRICS) for _ in range(50)]
        assert client.get("/api/examples").status_code == 200
        assert all(len(parse(answer.result())) > 20 for answer in scrapes)


def test_a_scrape_without_the_token_is_refused(serve: Serve) -> None:
    """With METRICS_TOKEN set, nobody else learns anything, a user of the API included."""
    with serve(metrics_token=TOKEN) as api, api.client(None) as client:
        for header in (*NOT_THE_TOKEN, f"Bearer {make_token()}".encode()):
            response = client.get("/metrics", headers=[(b"Authorization", header)])
            assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
            assert response.headers["www-authenticate"].startswith("Bearer")
        assert client.get("/metrics").json()["code"] == "token_missing"
        assert client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_metrics_can_be_switched_off(serve: Serve) -> None:
    """With METRICS_ENABLED=false there is no such path, and all else is as it was."""
    with serve(metrics_enabled=False) as api, api.client() as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/api/examples").status_code == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METRICS_TOKEN", "short"),
        ("METRICS_TOKEN", "with a space in the middle"),
        ("METRICS_TOKEN", "not-ascii-é-0123456789"),
        ("METRICS_ENABLED", "maybe"),
        ("SLOW_QUERY_MS", "0"),
        ("SLOW_QUERY_MS", "fast"),
        ("REVISION", 'a"b'),
    ],
)
def test_wrong_settings_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The message names the variable and does not repeat its value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        Settings.load()
    assert str(refusal.value).startswith(f"{name}: ")
    assert value not in str(refusal.value)
