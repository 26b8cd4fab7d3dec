"""What `make smoke` shows while it waits; tests/stack has what it finds."""

from io import StringIO

from rich.console import Console

from devtools.client import Endpoints
from devtools.smoke import checks
from devtools.smoke.run import open_stack, run_checks
from tests.support import Api


def test_who_waits_sees_for_what(api: Api) -> None:
    """The check and what it still lacks stand in the terminal's last line until there is a verdict."""
    terminal = StringIO()
    with open_stack(api.settings, Endpoints(api_port=api.port, prometheus_port=1), 0) as stack:
        console = Console(file=terminal, force_terminal=True, width=200)
        assert not run_checks(stack, (checks.targets,), console, patience_s=0.5)
    waited, _, verdict = terminal.getvalue().rpartition("✗")
    for text in ("Prometheus found every replica", "Connection refused"):
        assert text in waited
        assert text in verdict
