"""Runs the checks of the stack and prints a list of them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from app.settings import Settings
from devtools.client import ApiUnavailable, Endpoints, Tokens
from devtools.smoke import checks
from devtools.smoke.checks import CannotTell, Missing, Stack
from devtools.smoke.dashboards import dashboards
from devtools.smoke.delivery import delivery

Check = Callable[[Stack], str]
PATIENCE_S = 90.0  # a batch of spans, a scrape and a rule's evaluation each take up to half a minute
POLL_S = 1.0
TIMEOUT_S = 10.0
API: tuple[Check, ...] = (checks.ready, checks.create_row, checks.slow_search)
TRACES: tuple[Check, ...] = (checks.database_span, checks.executed_plan)
LINES: tuple[Check, ...] = (checks.lines,)
METRICS: tuple[Check, ...] = (checks.targets, checks.series, checks.exemplar, checks.rules, checks.limits)
ALERTS: tuple[Check, ...] = (delivery,)
OTHER: tuple[Check, ...] = (checks.monitor, checks.statements, checks.data_sources, dashboards)
EVERY = API + TRACES + LINES + METRICS + ALERTS + OTHER


def check_stack(settings: Settings, replicas: int) -> bool:
    """Check every link of the running stack and print the evidence. Return whether none fails."""
    with open_stack(settings, Endpoints.load(), replicas) as stack:
        return run_checks(stack, EVERY, Console(highlight=False, soft_wrap=True))


@contextmanager
def open_stack(settings: Settings, endpoints: Endpoints, replicas: int) -> Iterator[Stack]:
    """Connect to the services at `endpoints`."""
    with ExitStack() as clients:

        def client(port: int, **options: Any) -> httpx.Client:
            return clients.enter_context(httpx.Client(base_url=endpoints.url(port), timeout=TIMEOUT_S, **options))

        yield Stack(
            api=client(endpoints.api_port),
            jaeger=client(endpoints.jaeger_port),
            prometheus=client(endpoints.prometheus_port),
            grafana=client(endpoints.grafana_port, auth=("admin", endpoints.grafana_password.get_secret_value())),
            loki=client(endpoints.loki_port),
            header=Tokens(endpoints.url(endpoints.api_port), settings).header,
            replicas=replicas,
        )


def run_checks(stack: Stack, selected: tuple[Check, ...], console: Console, patience_s: float = PATIENCE_S) -> bool:
    """Print a line for each check, which must hold within `patience_s`. Return whether none fails."""
    results = [_run_check(stack, check, console, patience_s) for check in selected]
    return all(results)


def _run_check(stack: Stack, check: Check, console: Console, patience_s: float) -> bool:
    """Print the check's docstring, and its evidence or what is missing."""
    promise = str(check.__doc__)
    try:
        with console.status(promise) as status:
            evidence = _wait(stack, check, patience_s, lambda reason: status.update(f"{promise} {escape(reason)}"))
        console.print(f"[green]✓[/] {promise} [dim]{evidence}[/]")
    except CannotTell as reason:
        console.print(f"[yellow]-[/] {promise} [dim]{reason}[/]")
    except (Missing, ApiUnavailable) as error:
        console.print(f"[red]✗ {promise}[/] {error}")
        return False
    return True


def _wait(stack: Stack, check: Check, patience_s: float, show: Callable[[str], None]) -> str:
    """Return a check's evidence. Until there is some, `show` what is missing. Raise Missing after `patience_s`."""
    end = time.monotonic() + patience_s
    while True:
        try:
            return check(stack)
        except (httpx.HTTPError, Missing, KeyError, ValueError) as error:
            reason = str(error) or type(error).__name__
            if time.monotonic() > end:
                raise Missing(reason) from error
            show(reason)
        time.sleep(POLL_S)
