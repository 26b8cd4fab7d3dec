"""Whether alerts arrive. A receiver in the stack's own network waits for one, so this machine opens no port."""

import json
import subprocess
import time
from secrets import token_hex

from devtools.smoke.checks import Missing, Stack, query

TIMEOUT_S = 60  # the receiver itself gives up before


def delivery(stack: Stack) -> str:
    """An alert goes from its rule through Alertmanager to a receiver that smoke runs."""
    begun = time.monotonic()
    notification = json.loads(_receive([*stack.receiver, token_hex(4)]))
    name = notification["commonLabels"]["alertname"]
    own = query(stack, "max(alertmanager_integrations)") - 1
    told = f"receivers of your own: {own:.0f}" + ("" if own else ", so other alerts reach nobody")
    return f"{name} after {time.monotonic() - begun:.0f} s; {told}"


def _receive(command: list[str]) -> str:
    """Return what the receiver got. Raise Missing if it got nothing, or cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from None
    if done.returncode:
        raise Missing(done.stderr.strip().rpartition("\n")[2])
    return done.stdout
