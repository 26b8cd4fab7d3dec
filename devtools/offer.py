"""What the terminal of `make dev` offers while it serves: `o` and Enter opens the development page."""

import os
import signal
import sys
import webbrowser
from contextlib import suppress
from threading import Thread


def offer(url: str) -> None:
    """Open `url` in the browser whenever the terminal's user asks for it; without a terminal do nothing."""
    if sys.stdin.isatty():
        # A job in the background that reads from its terminal is stopped by this signal; ignored, it gets an error.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        Thread(target=_listen, args=(url,), daemon=True).start()


def _listen(url: str) -> None:
    with suppress(OSError):
        while line := os.read(sys.stdin.fileno(), 1024):  # not `readline`: its lock would hold up the process's end
            if line.strip().lower() == b"o":
                webbrowser.open(url)
