"""Fixtures for every test: an API of its own, on a database of its own."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app import main
from app.settings import Settings
from devtools.examples.routes import router as examples
from devtools.examples.schema import migrate
from devtools.postgres import Server, postgres
from devtools.postgres.home import remove
from tests.key_server import EC, ED, RSA, KeyServer, key_server, publish
from tests.support import ORIGIN, SECRET, UNLIMITED, Api, run_api, run_sql, wait_until

pytest_plugins = ["tests.postmaster", "tests.redis_server"]

TEMPLATE = "tasks_template"

main.ENTITIES = (examples, *main.ENTITIES)  # no copy of this project takes these away


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    state = tmp_path_factory.mktemp("cluster")
    with postgres(state, durable=False) as server:
        yield server
    wait_until(lambda: is_removed(state))


def is_removed(state: Path) -> bool:
    """Remove a cluster, unless its server has not ended yet: root's would fill /var/tmp, gigabytes a run."""
    with suppress(BlockingIOError):
        remove(state)
        return True
    return False


@pytest.fixture(scope="session")
def admin(cluster: Server) -> Callable[[str], None]:
    """Run one statement as the superuser, outside of every test's database."""
    return partial(run_sql, cluster.superuser_url())


@pytest.fixture(scope="session")
def template(cluster: Server, admin: Callable[[str], None]) -> str:
    """The name of a migrated database to copy: to copy is faster than to migrate."""
    admin(f"CREATE DATABASE {TEMPLATE} OWNER tasks")
    migrate(cluster.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture(scope="session")
def new_database(cluster: Server, admin: Callable[[str], None], template: str) -> Callable[[], str]:
    """A function that copies the template and returns the URL of the copy, with the application's login."""
    numbers = count(1)

    def create() -> str:
        name = f"tasks_{next(numbers)}"
        admin(f"CREATE DATABASE {name} OWNER tasks TEMPLATE {template}")
        return cluster.url(name)

    return create


@pytest.fixture
def database_url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
def serve(database_url: str) -> Callable[..., AbstractContextManager[Api]]:
    """A function that serves the test's database with the given settings, and with no rate limits."""

    def start(**settings: Any) -> AbstractContextManager[Api]:
        own = {"database_url": database_url, "better_auth_secret": SECRET} | UNLIMITED
        return run_api(Settings(**(own | settings)))

    return start


@pytest.fixture
def api(serve: Callable[..., AbstractContextManager[Api]]) -> Iterator[Api]:
    with serve() as running_api:
        yield running_api


@pytest.fixture(scope="session")
def shared_api(new_database: Callable[[], str]) -> Iterator[Api]:
    """One API for all tests that need no special settings and change nothing that another user sees."""
    settings = Settings(database_url=new_database(), better_auth_secret=SECRET, cors_origins=(ORIGIN,), **UNLIMITED)
    with run_api(settings) as api:
        yield api


@pytest.fixture(scope="session")
def stranger(shared_api: Api) -> Iterator[httpx.Client]:
    """A client of the shared API without a token."""
    with shared_api.client(None) as client:
        yield client


@pytest.fixture
def someone(shared_api: Api) -> Iterator[httpx.Client]:
    """A user of the shared API who has no examples yet."""
    with shared_api.client(f"someone-{uuid4()}") as client:
        yield client


@pytest.fixture
def alice(api: Api) -> Iterator[httpx.Client]:
    with api.client("alice") as client:
        yield client


@pytest.fixture
def bob(api: Api) -> Iterator[httpx.Client]:
    with api.client("bob") as client:
        yield client


@pytest.fixture
def issuer() -> Iterator[KeyServer]:
    """An issuer with one key of each algorithm."""
    with key_server(publish(ED.jwk(), EC.jwk(), RSA.jwk())) as server:
        yield server


@pytest.fixture
def issuer_api(issuer: KeyServer, serve: Callable[..., AbstractContextManager[Api]]) -> Iterator[Api]:
    """An API that accepts the issuer's tokens. A secret is set, too, but the API does not use it."""
    with serve(better_auth_url=issuer.url) as running_api:
        yield running_api
