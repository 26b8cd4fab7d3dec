"""Code with faults, as a release may bring it. Only the drill's own server has these routes."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import bindparam, func, select

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.web.route import ApiRoute
from devtools.examples.models import ExampleQuery
from devtools.examples.queries import EXAMPLE, Examples

router = APIRouter(prefix="/api/drill", tags=["drill"], route_class=ApiRoute)

SLEEP = select(func.pg_sleep(bindparam("seconds")), func.count()).select_from(EXAMPLE)
TAKE = select(func.pg_advisory_xact_lock(bindparam("one")), func.pg_sleep(0.1))
KEPT: list[bytes] = []
MIB = 2**20
MIB_IN_ALL = 512
Seconds = Annotated[float, Query(gt=0, le=5)]


@router.get("/blocked")
async def block_event_loop(seconds: Seconds = 0.3) -> None:
    """Sleep on the event loop, where every other request waits."""
    time.sleep(seconds)


@router.get("/slow")
def wait_long(seconds: Seconds = 0.4) -> None:
    """Wait, as for a lock or another service."""
    time.sleep(seconds)


@router.get("/slow-statement")
def ask_slowly(database: CurrentDatabase, user: CurrentUser, seconds: Seconds = 0.8) -> None:
    """Run a statement that takes long, and little of the processor."""
    database.execute(user, SLEEP, {"seconds": seconds}, function="ask_slowly")


@router.get("/crossed")
def take_in_turn(database: CurrentDatabase, user: CurrentUser, first: Annotated[int, Query(ge=1, le=2)]) -> None:
    """Take two things in one transaction, in the order that is asked for."""
    with database.transaction(user) as session:
        for one in (first, 3 - first):
            session.connection().execute(TAKE, {"one": one})


@router.get("/failure")
def fail() -> None:
    """Raise what nobody catches."""
    raise LookupError


@router.get("/leak")
def keep_memory(mib: Annotated[int, Query(gt=0, le=16)] = 1) -> int:
    """Keep memory for ever, up to a bound."""
    if len(KEPT) * mib < MIB_IN_ALL:
        KEPT.append(b"x" * (mib * MIB))
    return len(KEPT)


@router.get("/n-plus-one")
def read_one_by_one(examples: Examples, rows: Annotated[int, Query(gt=0, le=100)] = 20) -> int:
    """Read a page again for each row that it could have, where one statement would do."""
    query = ExampleQuery(limit=1)
    return sum(len(examples.page(query).rows) for _ in range(rows))


@router.get("/large")
def answer_at_length(kib: Annotated[int, Query(gt=0, le=4096)] = 1024) -> str:
    """Answer far more than anybody reads."""
    return "x" * (kib * 1024)


@router.get("/stream")
def stream_at_length(mib: Annotated[int, Query(gt=0, le=64)] = 16) -> StreamingResponse:
    """Stream far more than the system keeps for a client that does not read."""
    return StreamingResponse(bytes(MIB) for _ in range(mib))
