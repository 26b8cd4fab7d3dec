"""A headless Chromium that shows pages and takes pictures of them (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root may not have one
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-port=0",
)
PATIENCE_S = 60.0
POLL_S = 0.2


class NoPicture(RuntimeError):
    """A program is missing, or a page did not show what was waited for; the message is one line."""


class Page:
    """One page of the browser."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._ids = connection, count(1)

    def open(self, url: str) -> None:
        """Go to `url`."""
        self._call("Page.navigate", url=url)

    def resize(self, width: int, height: int) -> None:
        """Give the window this size, in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer.get("result", {}).get("value")

    def wait_for(self, script: str) -> None:
        """Wait until a JavaScript expression is true.

        Raises:
            NoPicture: it was not within PATIENCE_S.

        """
        end = time.monotonic() + PATIENCE_S
        while not self.evaluate(f"Boolean({script})"):
            if time.monotonic() > end:
                raise NoPicture(f"The page did not come to this: {script}")
            time.sleep(POLL_S)

    def save_picture(self, file: Path) -> None:
        """Write what the window shows as PNG."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv(PATIENCE_S))).get("id") != number:
            pass  # an event
        result: dict[str, Any] = answer.get("result", {})  # none while a page gives way to the next
        return result


@contextmanager
def open_browser(*flags: str) -> Iterator[Page]:
    """Start a browser without a history, and with these flags beside its usual ones, and end it.

    Raises:
        NoPicture: there is none on this machine.

    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise NoPicture(f"One of these is needed: {', '.join(PROGRAMS)}.")
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=quiet, stderr=quiet) as browser:  # noqa: S603  the browser
            try:
                with connect(_read_address(Path(profile)), max_size=None) as connection:
                    yield Page(connection)
            finally:
                browser.terminate()


def _read_address(profile: Path) -> str:
    """Return the address of the first page, once the browser has written its port into its profile."""
    port, end = profile / "DevToolsActivePort", time.monotonic() + PATIENCE_S
    while not (port.exists() and port.read_text().count("\n")):
        if time.monotonic() > end:
            raise NoPicture("The browser did not start.")
        time.sleep(POLL_S)
    pages = httpx.get(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list").json()
    return next(str(page["webSocketDebuggerUrl"]) for page in pages if page["type"] == "page")
