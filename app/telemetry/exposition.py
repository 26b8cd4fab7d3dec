"""Everything that is on /metrics: the application's own metrics, and those of prometheus_client's default registry.

The default registry is where prometheus_client's documentation puts a metric, so a team's are there, and those of the
process.
"""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

from anyio import Lock
from opentelemetry.trace import format_trace_id, get_current_span
from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

from app.telemetry.logs import text_of

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
UTF8 = "; escaping=allow-utf-8"  # our names need no escaping; not to look for it saves a third of the cost
EOF = b"# EOF\n"  # how OpenMetrics ends
WAIT_S = 1.0
MAX_LOGGED = 100  # messages, each of them once

logger = logging.getLogger(__name__)


class NameTaken(RuntimeError):
    """A metric of the default registry has a name of the application's; the message is one line that says which."""


class Exposition:
    """The metrics of `own`, and of the default registry.

    A metric of the default registry is left out if it fails, takes too long or has a taken name. The log says so once.
    One that is there at the start and has a taken name raises NameTaken.
    """

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._own_names = {base_name(metric) for metric in own.collect()}
        self._logged: set[str] = set()
        self._turn = Lock()
        self._thread = ThreadPoolExecutor(1, "metrics")  # begins its thread with the first scrape
        self._abandoned: Future[list[bytes]] | None = None  # a reading that takes too long
        if taken := [name for names, _ in self._read_each("", "describe") for name in names]:
            raise NameTaken(f"The application has metrics of its own named {', '.join(taken)}: rename yours.")

    async def encode(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type: OpenMetrics, with exemplars, if the Accept header asks for it."""
        # Only the type's name counts: the library raises TypeError for some versions, and echoes others.
        form = OPENMETRICS if "application/openmetrics-text" in accept else ""
        own = choose_encoder(form + UTF8 if form else "")[0](self._own)
        parts = [own, *await self._encode_default(form)]
        body = b"".join(part.removesuffix(EOF) for part in parts) + (EOF if form else b"")
        return body, choose_encoder(form)[1].partition("; escaping=")[0]

    async def _encode_default(self, form: str) -> list[bytes]:
        """Return what the default registry adds. A team's collector may wait, so a thread reads it."""
        async with self._turn:  # the time that other scrapes take does not count
            if self._abandoned and not self._abandoned.done():
                return []
            reading = self._thread.submit(self._read_default, form)
            await asyncio.wait([asyncio.wrap_future(reading)], timeout=WAIT_S)
            if reading.done():
                return reading.result()
            self._abandoned = None if reading.cancel() else reading
        self._log(f"a metric took over {WAIT_S:g} s to read: while it does, none of the default registry is shown")
        return []

    def _read_default(self, form: str) -> list[bytes]:
        parts = []
        for taken, text in self._read_each(form, "collect"):
            if taken:
                self._log(f"metrics are not shown, since others have their names: {', '.join(taken)}")
            else:
                parts.append(text)
        return parts

    def _read_each(self, form: str, method: str) -> Iterator[tuple[list[str], bytes]]:
        """Give, for each collector of the default registry, which of its names are taken, and its text."""
        encode, seen = choose_encoder(form)[0], set(self._own_names)
        for collector in tuple(REGISTRY._collector_to_names):  # the library has no public list of them
            try:
                metrics = list(getattr(collector, method, collector.collect)())
                text = encode(SimpleNamespace(collect=metrics.copy))
            except Exception as error:  # noqa: BLE001  a team's metric that cannot be read must not cost the others
                self._log(f"a metric cannot be read, {type(error).__qualname__}: {text_of(collector)}", error)
                continue
            names = [base_name(metric) for metric in metrics]
            yield sorted({m.name for m in metrics if base_name(m) in seen or names.count(base_name(m)) > 1}), text
            seen.update(names)

    def _log(self, message: str, error: Exception | None = None) -> None:
        """Log a message, once."""
        if message not in self._logged and len(self._logged) < MAX_LOGGED:
            self._logged.add(message)
            logger.error("%s", message, exc_info=error)


def base_name(metric: Metric) -> str:
    """Return the name without the ending that one of the forms adds to it."""
    return metric.name.removesuffix("_total").removesuffix("_info")


def exemplar() -> dict[str, str] | None:
    """Return the label that leads from a number to the current trace (OpenMetrics 1.0, "Exemplars"), if it is kept."""
    context = get_current_span().get_span_context()
    return {"trace_id": format_trace_id(context.trace_id)} if context.trace_flags.sampled else None
