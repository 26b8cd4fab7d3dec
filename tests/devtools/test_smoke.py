"""What `make smoke` shows while it waits. The checks themselves are tested in tests/devtools/stack."""

from io import StringIO

from rich.console import Console

from devtools.client import Endpoints
from devtools.smoke import checks
from devtools.smoke.run import open_stack, run_checks
from tests.support import Api


def test_a_waiting_check_shows_what_is_missing(api: Api) -> None:
    """Until the verdict, the terminal's last line has the check and what it still misses."""
    terminal = StringIO()
    with open_stack(api.settings, Endpoints(api_port=api.port, prometheus_port=1), 0) as stack:
        console = Console(file=terminal, force_terminal=True, width=200)
        assert not run_checks(stack, (checks.targets,), console, patience_s=0.5)
    waiting, _, verdict = terminal.getvalue().rpartition("✗")
    for text in ("Prometheus found every replica", "Connection refused"):
        assert text in waiting
        assert text in verdict
