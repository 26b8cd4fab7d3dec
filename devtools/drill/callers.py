"""Incidents that callers make, and what bounds them."""

from asyncio import gather

from devtools.drill.incident import Incident, Load, Sign, Step, series
from devtools.drill.target import FAULTY_CODE
from devtools.traffic.actions import User, asking, send_bad_token

LIMITS_LOST = Incident(
    name="redis-stopped",
    sentence="Redis is gone, so each replica counts the requests of a user by itself.",
    alert="RateLimiterOnFallback",
    signs=(Sign("line", "message", "rate limits: Redis does not count .*"),),
    steps=(Step("rate(rate_limit_requests_total", series(outcome="fallback")),),
    needs=frozenset({"stop redis"}),
    inject=lambda target: target.change("stop redis"),
)

TOKENS_REFUSED = Incident(
    name="tokens-refused",
    sentence="A client sends many requests whose tokens are not signed by us.",
    alert="AuthenticationFailuresFlood",
    signs=(Sign("line", "code", "token_invalid"), Sign("line", "client", ".+")),
    steps=(
        Step("sum by (reason) (rate(auth_failures_total", series(reason="token_invalid")),
        Step(".status == 429", r"\d+ 127\.0\.0\.1 rate_limited"),
    ),
    load=Load(send_bad_token, 10),
)

NOISY, AT_ONCE, EVERY_S = "noisy", 30, 20  # 90 a minute: within the limit


async def ask_at_once(user: User) -> None:
    """Ask for what takes the database long, many times at once."""
    await gather(*(asking("/api/drill/slow-statement")(user) for _ in range(AT_ONCE)))


NOISY_NEIGHBOUR = Incident(
    name="noisy-neighbour",
    sentence="One user's script sends slow requests at once, within its limit, and everybody waits for a thread.",
    alert="ErrorBudgetBurnsFast",
    signs=(
        Sign("span", "app.pool.held_by_users", NOISY),
        Sign("span", "app.pool.held_by", "GET /api/drill/slow-statement"),
        Sign("label", "slo", "latency"),
    ),
    steps=(Step("db_ms: (map(.db_ms // 0)", rf'\A{{"user_id":"{NOISY}",.*'),),
    also=frozenset({"ErrorBudgetBurnsSlowly", "QueriesSlow", "PoolSaturated"}),
    needs=frozenset({FAULTY_CODE}),
    load=Load(ask_at_once, 1 / EVERY_S, NOISY),
)

INCIDENTS = (LIMITS_LOST, TOKENS_REFUSED, NOISY_NEIGHBOUR)
