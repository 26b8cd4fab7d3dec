"""Why a statement was slow, and which code sent it: on its span, and in a line of the log."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from traceback import walk_stack
from typing import Any

import psycopg2
from sqlalchemy.exc import SQLAlchemyError

from app.telemetry.log_fields import Line
from app.telemetry.plans import estimated_plan, summary
from app.telemetry.shapes import Attributes, Run

EXPLAIN_EVERY_S = 600.0
MAX_EXPLAINED = 512  # statements for which it is kept when they may be explained again
APP = Path(__file__).parents[1]
SERVING = tuple(f"{APP}/{package}/" for package in ("db", "telemetry", "web"))  # whatever sends the statements

Explain = Callable[[Any, str, Any], Any]  # principal, statement and parameters -> the document of EXPLAIN

logger = logging.getLogger("app.queries")


class SlowStatements:
    """Explains the statements that took `slow_query_ms` or more, and those whose plan the server sent."""

    def __init__(self, slow_query_ms: int, explain: Explain) -> None:
        self._slow_s, self._explain = slow_query_ms / 1000, explain
        self._explain_again: dict[str, float] = {}  # when, by `monotonic`, for each text

    def explain(self, run: Run, facts: Attributes) -> None:
        """Put on the span, and in the log, why a statement was slow; `facts` are those of its plan or its failure."""
        is_slow = run.seconds >= self._slow_s
        if not is_slow and "app.db.plan" not in facts:
            return
        facts = {**facts, **self._estimate(run, facts), **find_caller(), **run.shape.log_fields}
        run.span.set_attributes({"app.db.slow": True, **facts} if is_slow else facts)
        if is_slow:
            log_slowness(run, facts)

    def _estimate(self, run: Run, facts: Attributes) -> Attributes:
        """Return the planner's estimate for a SELECT without a plan, once in ten minutes, if the server answers."""
        is_answered = "error.type" not in facts or "db.response.status_code" in facts
        if not (is_answered and run.principal and run.text.startswith("SELECT")) or "app.db.plan" in facts:
            return {}
        if monotonic() < self._explain_again.get(run.text, 0.0):
            return {}
        if len(self._explain_again) >= MAX_EXPLAINED:
            self._explain_again.clear()
        self._explain_again[run.text] = monotonic() + EXPLAIN_EVERY_S
        try:
            return estimated_plan(self._explain(run.principal, run.text, run.parameters))
        except (SQLAlchemyError, psycopg2.Error):
            return {}


def log_slowness(run: Run, facts: Attributes) -> None:
    """Write the line of a slow statement, without its plan: the span holds it, and a collector would cut the line."""
    milliseconds = round(run.seconds * 1000, 1)
    plan = f": {summary(facts)}" if "app.db.plan" in facts else ""
    others = {name: facts[name] for name in sorted(facts) if name != "app.db.plan"}
    line = Line({"query": run.shape.name, "duration_ms": milliseconds} | others, run.span.get_span_context())
    logger.warning(f"slow query: {run.shape.name} took {milliseconds:,} ms{plan}", extra={"line": line})


def find_caller() -> Attributes:
    """Return the line of the application that sent the statement. Walking the stack is dear: only for slow ones."""
    for frame, _ in walk_stack(sys._getframe(1)):
        filename = frame.f_code.co_filename
        if filename.startswith(f"{APP}/") and not filename.startswith(SERVING):
            return {
                "code.function.name": f"{frame.f_globals['__name__']}.{frame.f_code.co_qualname}",
                "code.file.path": str(Path(filename).relative_to(APP.parent)),
                "code.line.number": frame.f_lineno,
            }
    return {}
