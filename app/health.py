"""Is this process alive, and can it serve? Probers ask every few seconds, so they share an answer and never queue."""

import asyncio
import logging
from contextvars import Context
from threading import Event
from time import monotonic
from typing import Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import TypedDict  # pydantic wants this one below Python 3.12

from app.db import deadline
from app.db.database import Database
from app.migrations import Revisions

CACHE_S = 1.0
WAIT_S = 0.4  # a prober usually waits for 1 s (Kubernetes: timeoutSeconds)
PROBE_TIMEOUT_S = 2.0

logger = logging.getLogger(__name__)


class Health(TypedDict):
    """Only the verdict: details are for logs, not for strangers."""

    status: Literal["healthy", "unhealthy"]


class Readiness:
    """Whether the database answers with a schema that this code can serve, and this process is not draining.

    It asks the database at most once a second, on a connection and a thread of its own: a busy pool is no reason to be
    taken out of service.
    """

    def __init__(self, database: Database, revisions: Revisions, draining: Event) -> None:
        self._database, self._revisions, self._draining = database, revisions, draining
        self._thread = CapacityLimiter(1)
        self._probe: asyncio.Task[None] | None = None
        self._ready, self._checked = False, -CACHE_S

    async def __call__(self) -> bool:
        """Return the verdict, at most CACHE_S old, within WAIT_S; a slower probe counts for CACHE_S once it ends."""
        is_known = monotonic() - self._checked < CACHE_S
        if not is_known:
            if self._probe is None or self._probe.done():
                probe = to_thread.run_sync(self._check, abandon_on_cancel=True, limiter=self._thread)
                self._probe = asyncio.create_task(probe, context=Context())  # it outlives the request
            ended, _ = await asyncio.wait([self._probe], timeout=WAIT_S)
            is_known = bool(ended)
        return is_known and self._ready and not self._draining.is_set()

    def _check(self) -> None:
        ready = False
        try:
            with deadline.ensure(PROBE_TIMEOUT_S):
                ready = self._revisions.serve(self._database.revision())
        except SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error  # the driver's own says more than SQLAlchemy's
            logger.warning("not ready: the database did not answer (%s)", type(cause).__name__)
        finally:
            self._ready, self._checked = ready, monotonic()


router = APIRouter(prefix="/health", tags=["health"])


@router.get("", operation_id="health", response_model=Health, responses={503: {"model": Health}})
@router.get("/ready", operation_id="ready", response_model=Health, responses={503: {"model": Health}})
async def ready(request: Request) -> JSONResponse:
    """Can this process serve? The database answers and its schema is not behind."""
    if await request.app.state.readiness():
        return JSONResponse(Health(status="healthy"))
    return JSONResponse(Health(status="unhealthy"), 503)


@router.get("/live", operation_id="live")
async def live() -> Health:
    """Does this process run? Touches nothing else."""
    return Health(status="healthy")
