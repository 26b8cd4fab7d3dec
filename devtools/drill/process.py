"""Incidents of the application's own processes, and of its code."""

from devtools.drill.incident import BUDGET, Incident, Load, Sign, Step, series
from devtools.drill.target import DEPLOY, FAULTY_CODE
from devtools.traffic.actions import asking

CODE_FAILS = Incident(
    name="code-fails",
    sentence="A release raises an exception in one of its routes.",
    alert="ErrorBudgetBurnsFast",
    signs=(
        Sign("line", "message", "unexpected error: LookupError"),
        Sign("line", "stack", r"(?s).*devtools/drill/faults\.py.*LookupError"),
    ),
    steps=(Step("sum by (method, handler, status)", series(handler="/api/drill/failure", status="500")),),
    also=frozenset({"ErrorBudgetBurnsSlowly"}),
    needs=frozenset({FAULTY_CODE}),
    load=Load(asking("/api/drill/failure"), 2),
)

RELEASE_FAILS = Incident(
    name="release-fails",
    sentence="A new revision is deployed, and one of its routes fails.",
    alert="ErrorBudgetBurnsFast",
    signs=(Sign("line", "revision", "next"), Sign("span", "app.problem.code", "internal_error")),
    steps=(
        Step("sum by (revision) (rate(http_requests_total", series(revision="next")),
        Step(".status >= 500) | .revision", r"\d+ next$"),
        Step("sum by (method, handler, status)", series(handler="/api/drill/failure", status="500")),
    ),
    also=frozenset({"ErrorBudgetBurnsSlowly"}),
    needs=frozenset({FAULTY_CODE, DEPLOY}),
    inject=lambda target: target.change(DEPLOY),
    load=Load(asking("/api/drill/failure"), 2),
)

CODE_IS_SLOW = Incident(
    name="code-is-slow",
    sentence="A release waits for long in one of its routes, and not for the database.",
    alert="ErrorBudgetBurnsFast",
    signs=(Sign("span", "http.route", "/api/drill/slow"), Sign("label", "slo", "latency")),
    steps=(Step("topk(5, histogram_quantile(0.99", series(r"0\.[3-9].*|1.*", handler="/api/drill/slow")),),
    also=frozenset({"ErrorBudgetBurnsSlowly"}),
    needs=frozenset({FAULTY_CODE}),
    load=Load(asking("/api/drill/slow"), 5),
)

EVENT_LOOP_BLOCKED = Incident(
    name="event-loop-blocked",
    sentence="A coroutine of a release sleeps on the event loop, so every request of the process waits.",
    alert="EventLoopLags",
    signs=(
        Sign("line", "message", "the event loop is blocked by .*block_event_loop.*"),
        Sign("span", "app.event_loop.blocked_by", ".*block_event_loop.*"),
    ),
    steps=(
        Step("event_loop_lag_seconds_bucket", series(r"0\.[1-9].*")),
        Step("{message, late_ms", "blocked by .*block_event_loop"),
    ),
    also=BUDGET,
    needs=frozenset({FAULTY_CODE}),
    load=Load(asking("/api/drill/blocked"), 1.5),
)

N_PLUS_ONE = Incident(
    name="n-plus-one",
    sentence="A release reads the rows of a list one by one, with a statement each.",
    alert="StatementsRepeated",
    signs=(
        Sign("label", "handler", "/api/drill/n-plus-one"),
        Sign("label", "query", "SELECT {table}"),
        Sign("span", "app.db.n_plus_one", "True"),
        Sign("line", "message", r"N\+1: GET /api/drill/n-plus-one ran SELECT {table} 20 times"),
    ),
    steps=(
        Step("sum by (method, handler, query)", series(handler="/api/drill/n-plus-one", query="SELECT {table}")),
        Step('startswith("N+1")', r"ExampleStore\.page"),
    ),
    also=BUDGET,
    needs=frozenset({FAULTY_CODE}),
    load=Load(asking("/api/drill/n-plus-one"), 3),
)

API_STOPPED = Incident(
    name="api-stopped",
    sentence="Every replica of the API has ended.",
    alert="ApiDown",
    signs=(Sign("line", "message", "Finished server process.*"),),
    steps=(Step('up{job="task-api"}', series("0", job="task-api")),),
    also=frozenset({"TargetDown"}),
    needs=frozenset({"stop api"}),
    inject=lambda target: target.change("stop api"),
)

INCIDENTS = (API_STOPPED, CODE_FAILS, RELEASE_FAILS, CODE_IS_SLOW, EVENT_LOOP_BLOCKED, N_PLUS_ONE)
