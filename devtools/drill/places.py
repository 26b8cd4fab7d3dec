"""Where a drill can be made: `make dev`, the compose stack, or a server of its own, all on this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import psutil
from sqlmodel import SQLModel

from app import main
from app.settings import Settings, SettingsError
from devtools.client import Endpoints, Tokens, find_collection
from devtools.drill import undo
from devtools.drill.target import FAULTY_CODE, FEW_FILES, RESTART, TRACE_MEMORY, Change, Target, frozen
from devtools.drill.undo import DrillFailed
from devtools.environment import HOME
from devtools.examples.routes import router as examples
from devtools.postgres import Server, postgres
from devtools.postgres.home import prepare_folders
from devtools.stack.docker import CannotStart, ask, list_containers

ROOT = Path(__file__).parents[2]
STATE = HOME / "postgres"
SERVICES = ("alertmanager", "api", "jaeger", "loki", "postgres", "postgres-exporter", "prometheus", "redis")


class Place(NamedTuple):
    """A place by its name, and what can be done there: see Target.changes."""

    name: str
    changes: frozenset[str]


DEV = Place("dev", frozenset({"freeze api", "freeze postgres"}))
STACK = Place("stack", frozenset(f"{verb} {service}" for verb in ("freeze", "stop") for service in SERVICES))
OWN = Place("own", frozenset({"freeze api", "freeze postgres", FAULTY_CODE, FEW_FILES, RESTART, TRACE_MEMORY}))
PLACES = {place.name: place for place in (DEV, STACK, OWN)}


def refuse_production(settings: Settings) -> None:
    """Raise SettingsError if the settings are those of a production."""
    if settings.environment == "production":
        raise SettingsError("ENVIRONMENT is production: a drill breaks things.")


@contextmanager
def dev(settings: Settings) -> Iterator[Target]:
    """Yield the `make dev` of this checkout, whose database then stays until the block ends.

    Raises:
        DrillFailed: it does not run.
        SettingsError: its database is not the embedded one.
    """
    if settings.database_url is not None:
        raise SettingsError("DATABASE_URL is set: a drill breaks only the embedded database.")
    api = _find_api()
    if api is None:
        raise DrillFailed("`make dev` of this checkout does not run: start it in another terminal.")
    process, port = api
    with postgres(STATE) as server:
        changes = {"freeze api": frozen(process.pid), "freeze postgres": frozen(postmaster_of(server))}
        yield target_at(f"http://127.0.0.1:{port}", settings, psql_of(STATE, server), changes, "its terminal")


def _find_api() -> tuple[psutil.Process, int] | None:
    """Return the process of this checkout that `make dev` serves with, and its port."""
    for process in psutil.process_iter():
        try:
            if "devtools.serve" in process.cmdline() and Path(process.cwd()) == ROOT:
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN:
                        return process, connection.laddr.port
        except psutil.Error:  # it has ended, or belongs to somebody else
            continue
    return None


def postmaster_of(server: Server) -> int:
    """Return the process that listens at the socket of an embedded server."""
    return int((server.socket / ".s.PGSQL.5432.lock").read_text().split("\n", 1)[0])


def psql_of(state: Path, server: Server) -> tuple[str, str]:
    """Return the command that opens psql as the superuser of an embedded server, whose folder is `state`."""
    return str(prepare_folders(state)[1] / "psql"), server.superuser_url("tasks").replace("+psycopg2", "")


@contextmanager
def stack(settings: Settings) -> Iterator[Target]:
    """Yield the stack of this checkout.

    Raises:
        DrillFailed: it does not run.
        SettingsError: it is a production, or on another machine.
    """
    try:
        running = _verify_stack()
    except CannotStart as error:
        raise DrillFailed(f"{error}") from None
    compose = ("docker", "compose")
    changes: dict[str, Change] = {}
    for service in running.intersection(SERVICES):
        for name, do, back in (("freeze", "pause", "unpause"), ("stop", "stop", "start")):
            commands = [*compose, do, service], [*compose, back, service]
            changes[f"{name} {service}"] = partial(undo.changed, *commands)
    psql = (*compose, "exec", "-T", "postgres", "psql", "-U", "postgres", "tasks")
    endpoints = Endpoints.load()
    yield target_at(
        endpoints.url(endpoints.api_port), settings, psql, changes, "docker compose logs --no-log-prefix api"
    )


def _verify_stack() -> set[str]:
    """Return the services that run, or raise."""
    running = {container["Service"] for container in list_containers() if container["State"] == "running"}
    if "api" not in running:
        raise DrillFailed("The stack of this checkout does not run: start it with `make stack`.")
    engine = ask("context", "inspect", "--format", "{{.Endpoints.docker.Host}}")
    if not engine.startswith(("unix://", "npipe://")):
        raise SettingsError(f"Docker runs at {engine}, which is not this machine: a drill breaks things.")
    if ask("compose", "exec", "-T", "api", "printenv", "ENVIRONMENT") == "production":
        raise SettingsError("The stack runs with ENVIRONMENT=production: a drill breaks things.")
    return running


def target_at(url: str, settings: Settings, psql: tuple[str, ...], changes: dict[str, Change], lines: str) -> Target:
    """Return the API at `url` as a target."""
    collection = find_collection(url)
    return Target([url], collection, _table_of(collection), Tokens(url, settings).header, psql, changes, lines)


def _table_of(collection: str) -> str:
    """Return the table of the entity whose routes begin with `collection`."""
    routers = {router.prefix: router for router in (examples, *main.ENTITIES)}
    (package, *_) = {route.endpoint.__module__.rpartition(".")[0] for route in routers[collection].routes}  # type: ignore[attr-defined]  # all are FastAPI's
    tables = [kind.__tablename__ for kind in vars(import_module(f"{package}.models")).values() if _is_table(kind)]
    return str(tables[0])


def _is_table(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, SQLModel) and hasattr(kind, "__table__")
