"""Incidents of the identity provider, whose keys verify tokens."""

from devtools.drill.incident import BUDGET, Incident, Load, Sign, Step, series
from devtools.traffic.actions import list_rows

CERTIFICATE_EXPIRED = Incident(
    name="key-server-expired",
    sentence="The certificate of the identity provider has expired, so its keys cannot be read any more.",
    alert="KeyFetchesFail",
    signs=(
        Sign("label", "outcome", "certificate"),
        Sign("line", "message", "the keys at .* cannot be read: ConnectError: certificate has expired"),
    ),
    steps=(
        Step("increase(auth_key_fetches_total", series(outcome="certificate")),
        Step("^the keys at", "certificate has expired$"),
    ),
    also=BUDGET | {"KeysOld"},
    needs=frozenset({"expire keys"}),
    inject=lambda target: target.change("expire keys"),
)

KEY_SERVER_FROZEN = Incident(
    name="key-server-frozen",
    sentence="The identity provider takes connections, and never answers.",
    alert="KeysOld",
    signs=(Sign("line", "message", "the keys at .* cannot be read: .*Timeout.*"),),
    steps=(Step("increase(auth_key_fetches_total", series(outcome="timeout")), Step("^the keys at", "Timeout")),
    also=BUDGET | {"KeyFetchesFail"},
    needs=frozenset({"freeze keys"}),
    inject=lambda target: target.change("freeze keys"),
)

CLOCK_FAST = Incident(
    name="key-server-clock-fast",
    sentence="The clock of the identity provider is 95 s ahead, so what it signs now is not valid yet.",
    alert="ClocksDiffer",
    signs=(Sign("line", "message", r"the clock of .* is 9\d s ahead of ours: .*"),),
    steps=(
        Step("sum by (instance) (auth_clock_offset_seconds", series(r"9\d(\.\d+)?")),
        Step("rate(auth_failures_total", series(reason="token_early")),
    ),
    also=frozenset({"AuthenticationFailuresFlood"}),
    needs=frozenset({"set keys' clock"}),
    inject=lambda target: target.change("set keys' clock"),
    load=Load(list_rows, 3),
)

INCIDENTS = (CERTIFICATE_EXPIRED, KEY_SERVER_FROZEN, CLOCK_FAST)
