"""An app that sends its spans, and what traces its answers named."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from app.main import create_app
from app.settings import Settings
from tests.otlp_receiver import run_receiver
from tests.support import SECRET, UNLIMITED, Create, run_api


@contextmanager
def traced(
    database_url: str, ratio: float, create: Create = create_app, **given: Any
) -> Iterator[tuple[httpx.Client, set[str]]]:
    """Serve an app that samples this share of its requests; give a client, and the traces it has been told of."""
    traces: set[str] = set()

    def note(answer: httpx.Response) -> None:
        traces.add(answer.headers.get("X-Trace-Id", ""))

    with run_receiver() as receiver:
        own = {"database_url": database_url, "otel_exporter_otlp_endpoint": receiver.url}
        settings = Settings(better_auth_secret=SECRET, otel_traces_sampler_arg=ratio, **(own | UNLIMITED | given))
        with run_api(settings, create) as api, api.client() as client:
            client.event_hooks = {"response": [note]}
            yield client, traces
