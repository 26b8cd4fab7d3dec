"""Is the stack one whole? Each link is asked for its evidence, and a check list is printed."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
from rich.console import Console
from rich.markup import escape

from app.settings import Settings
from devtools import evidence
from devtools.caller import Endpoints, NoAnswer, Tokens
from devtools.dashboards import dashboards
from devtools.evidence import Missing, Stack

Check = Callable[[Stack], str]
PATIENCE_S = 90.0  # a batch of spans, a scrape and a rule's evaluation each take up to half a minute
POLL_S = 1.0
TIMEOUT_S = 10.0
API: tuple[Check, ...] = (evidence.ready, evidence.task_created, evidence.slow_search)
TRACES: tuple[Check, ...] = (evidence.database_span, evidence.executed_plan)
METRICS: tuple[Check, ...] = (evidence.targets, evidence.series, evidence.exemplar, evidence.rules, evidence.limits)
AROUND: tuple[Check, ...] = (evidence.monitor, evidence.statements, evidence.data_sources, dashboards)


def smoke(settings: Settings, replicas: int) -> bool:
    """Check every link of the running stack, and print what shows it; return whether all hold.

    Raises:
        NoAnswer: the API is not there.

    """
    with opened(settings, Endpoints.load(), replicas) as stack:
        return hold(stack, API + TRACES + METRICS + AROUND, Console(highlight=False, soft_wrap=True))


@contextmanager
def opened(settings: Settings, endpoints: Endpoints, replicas: int) -> Iterator[Stack]:
    """Return the stack whose services are at `endpoints`."""
    ports = (endpoints.api_port, endpoints.jaeger_port, endpoints.prometheus_port, endpoints.grafana_port)
    api, jaeger, prometheus, grafana = (httpx.Client(base_url=endpoints.url(p), timeout=TIMEOUT_S) for p in ports)
    grafana.auth = httpx.BasicAuth("admin", endpoints.grafana_password.get_secret_value())
    with ExitStack() as clients:
        for client in (api, jaeger, prometheus, grafana):
            clients.enter_context(client)
        yield Stack(
            api, jaeger, prometheus, grafana, Tokens(endpoints.url(endpoints.api_port), settings).header, replicas
        )


def hold(stack: Stack, checks: tuple[Check, ...], console: Console, patience_s: float = PATIENCE_S) -> bool:
    """Print a line a check, each given `patience_s` to hold; return whether all do."""
    held = [told(stack, check, console, patience_s) for check in checks]
    return all(held)


def told(stack: Stack, check: Check, console: Console, patience_s: float) -> bool:
    """Print what one check says, and its evidence or what is missing."""
    promise = str(check.__doc__).partition("\n")[0]
    try:
        with console.status(promise) as status:
            found = patiently(stack, check, patience_s, lambda lack: status.update(f"{promise} {escape(lack)}"))
        console.print(f"[green]✓[/] {promise} [dim]{found}[/]")
    except (Missing, NoAnswer) as error:
        console.print(f"[red]✗ {promise}[/] {error}")
        return False
    return True


def patiently(stack: Stack, check: Check, patience_s: float, tell: Callable[[str], None]) -> str:
    """Return the evidence of a check as soon as there is some; until then `tell` what is missing.

    Raises:
        Missing: there was none within `patience_s`.

    """
    end = time.monotonic() + patience_s
    while True:
        try:
            return check(stack)
        except (httpx.HTTPError, Missing, KeyError, ValueError) as error:
            lack = str(error) or type(error).__name__
            if time.monotonic() > end:
                raise Missing(lack) from error
            tell(lack)
        time.sleep(POLL_S)
