"""Waits for one alert, prints the notification and ends. `make smoke` runs it in the stack's network.

While it waits, Prometheus reads `smoke_waits` here, so that SmokeRuns fires, and Alertmanager sends that alert back.
Only the standard library: the file is mounted into the image of the API.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

PATIENCE_S = 45  # the rule needs about 15 s
METRICS = '# TYPE smoke_waits gauge\nsmoke_waits{{run="{}"}} 1\n'


class Receiver(HTTPServer):
    """Answers scrapes, and keeps the first notification of an alert of this `run`."""

    timeout = 1

    def __init__(self, address: tuple[str, int], run: str) -> None:
        super().__init__(address, _Handler)
        self.run = run
        self.received: str | None = None


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = 5

    def do_GET(self) -> None:
        self._answer(METRICS.format(self.server.run))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["commonLabels"].get("run") == self.server.run:
            self.server.received = json.dumps(body)
        self._answer("")

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Leave standard error to what fails."""


def main(host: str, port: str, run: str) -> None:
    """Print the notification as one line. Exit with 1 and a plain message if none comes."""
    end = time.monotonic() + PATIENCE_S
    with Receiver((host, int(port)), run) as server:
        while server.received is None:
            if time.monotonic() > end:
                sys.exit(f"no alert came within {PATIENCE_S} s")
            server.handle_request()
    sys.stdout.write(server.received + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
