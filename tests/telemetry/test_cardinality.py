"""However odd the requests, the series are few; however many the routes, a scrape is small."""

import asyncio
from itertools import cycle, islice
from random import Random

import httpx
from fastapi import FastAPI

from app.main import create_app
from app.settings import Settings
from tests.support import SECRET, Api, make_token
from tests.telemetry.scrapes import OPENMETRICS, scrape

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "MKCOL", "PURGE", "REPORT")
PATHS = (
    "/api/examples",
    "/api/examples/{n}",
    "/api/examples/{n}/complete",
    "/api/examples/x{n}",
    "/api/examples?cursor={n}",
    "/api/examples?x{n}={n}",
    "/api/{n}",
    "/{n}.php",
    "//api/examples/{n}",
    "/health/{n}",
    "/metrics/{n}",
    "/%F0%9F%98%80{n}",
)
BODIES = (b"", b"{", b'{"title": "odd"}', b'{"title": 1}', b"\xff", b"x" * 140_000)
TYPES = ("application/json", "text/html", "application/x-{n}")


def hostile(number: int, chance: Random) -> httpx.Request:
    """One request that no user would send: each has a host, a user and a path of its own."""
    headers = {
        "Host": f"host-{number}.example",
        "Authorization": chance.choice([f"Bearer {make_token(f'user-{number}')}", "Bearer x", f"Basic {number}"]),
        "User-Agent": f"agent-{number}",
        "X-Forwarded-For": f"10.0.0.{number % 256}",
        "Content-Type": chance.choice(TYPES).replace("{n}", str(number)),
        "If-Match": chance.choice(['"1"', f'"{number}"', "*"]),
    }
    method, path = chance.choice(METHODS), chance.choice(PATHS).replace("{n}", str(number))
    return httpx.Request(method, f"http://api{path}", headers=headers, content=chance.choice(BODIES))


def test_hostile_requests_make_few_series(api: Api) -> None:
    """Five hundred odd requests add at most 30 series, whatever their methods, paths, hosts, users and outcomes."""
    chance = Random(7)  # noqa: S311  the same odd requests each time
    with api.client() as client:
        before = scrape(client).series
        for number in range(500):
            request = hostile(number, chance)
            request.url = request.url.copy_with(host="127.0.0.1", port=api.port)
            assert client.send(request).status_code != 500
        added = scrape(client).series - before
    assert len(added) <= 30, sorted(str(series) for series in added)


def test_invented_methods_are_one(api: Api) -> None:
    """Methods that the API does not know share a label value."""
    with api.client() as client:
        for method in ("TRACE", "PROPFIND", "MKCOL"):
            client.request(method, "/api/examples")
        counted = scrape(client).value("http_requests_total", method="other", handler="none", status="405")
    assert counted == 3


def test_a_scrape_of_forty_routes_stays_small(database_url: str) -> None:
    """With 40 routes, each asked with several outcomes, an answer has at most 25 lines for each: a line costs 8 us."""
    api = create_app(Settings(database_url=database_url, better_auth_secret=SECRET), entities=())
    for number in range(40):
        api.add_api_route(f"/things-{number}/{{id}}", answer, responses={404: {}, 409: {}, 422: {}, 503: {}})
    lines = asyncio.run(scrape_after_traffic(api))
    assert 40 * 15 < lines < 40 * 25


async def answer(id: int) -> dict[str, int]:
    return {"id": id}


async def scrape_after_traffic(api: FastAPI) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://api") as client:
        for number, thing in islice(zip(cycle(range(40)), cycle(["1", "x", "2"])), 240):
            assert (await client.get(f"/things-{number}/{thing}")).status_code in {200, 422}
        scraped = (await client.get("/metrics", headers=OPENMETRICS)).text
        return sum("/things-" in line for line in scraped.splitlines())
