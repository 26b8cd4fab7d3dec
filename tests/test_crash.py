"""What was acknowledged is kept and what was retried is made once, however often PostgreSQL dies."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from uuid import uuid4

import httpx
import pytest

from app.settings import Settings
from tests.postmaster import Postmaster
from tests.support import SECRET, UNLIMITED, run_api, wait_until

KILLS = 20
WRITERS = 4
BETWEEN = 20  # examples at least


def write(client: httpx.Client, acknowledged: dict[str, int], done: Event) -> None:
    """Make one example after another, each with its key again and again until it is acknowledged."""
    while not done.is_set():
        title = str(uuid4())
        while (answer := post(client, title)).status_code == 503:
            assert answer.json()["code"] == "database_unavailable"
            done.wait(0.05)
        assert answer.status_code == 201, answer.text
        acknowledged[title] = answer.json()["id"]


def post(client: httpx.Client, title: str) -> httpx.Response:
    return client.post("/api/examples", json={"title": title}, headers={"Idempotency-Key": title})


def reached(acknowledged: dict[str, int], goal: int) -> bool:
    return len(acknowledged) >= goal


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_is_made_twice(durable: Postmaster) -> None:
    """Twenty times PostgreSQL is killed under four writers, who retry with their keys."""
    name, done = durable.new_database(), Event()
    acknowledged: dict[str, int] = {}
    settings = Settings(database_url=durable.url(name), better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings) as api, api.client() as client, ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write, client, acknowledged, done) for _ in range(WRITERS)]
        try:
            for goal in range(BETWEEN, BETWEEN * KILLS + 1, BETWEEN):
                wait_until(partial(reached, acknowledged, goal), seconds=30)
                durable.kill()
                durable.start(durable=True)
        finally:
            done.set()
        for writer in writers:
            writer.result()
        replayed = {title: post(client, title).json()["id"] for title in list(acknowledged)[:: len(acknowledged) // 50]}
    kept = durable.ask("SELECT title, id FROM example", name)
    assert len(kept) == len(acknowledged) >= BETWEEN * KILLS
    assert dict(kept) == acknowledged
    assert replayed.items() <= acknowledged.items()
