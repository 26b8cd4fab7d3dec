"""Statements on the event loop's thread: while one waits for its answer there, every other request waits as well."""

import logging
from asyncio import _get_running_loop  # the public one raises where there is none, which costs ten times as much
from functools import partial
from typing import Any

from sqlalchemy import Engine, event

from app.record import CURRENT
from app.telemetry.once import Seen

REMEDY = (
    "`async def` code must not run a statement, since every other request waits for its answer: "
    "write it with `def`, or `await run_in_threadpool(...)` of fastapi.concurrency."
)

logger = logging.getLogger(__name__)


class StatementOnEventLoop(RuntimeError):
    """A coroutine ran a statement itself; the message says what to do."""


def watch(engine: Engine, *, refuse: bool) -> None:
    """Look out for statements on the event loop's thread.

    With `refuse` each raises StatementOnEventLoop. Without it, the log names each route once.
    """
    event.listen(engine, "before_cursor_execute", partial(_look, Seen(), refuse))


def _look(routes: Seen, refuse: bool, *_: Any) -> None:  # noqa: FBT001
    if _get_running_loop() is None:
        return
    record = CURRENT.get()
    route = (record and record.route) or "-"
    if refuse:
        logger.error("%s: %s", route, REMEDY)
        raise StatementOnEventLoop(REMEDY)
    if routes.is_new(route):
        logger.warning("%s: %s", route, REMEDY)
