"""Everything that is on /metrics: the application's own metrics, and those of prometheus_client's default registry.

The default registry is where prometheus_client's documentation puts a metric, so a team's are there, and those of the
process.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.telemetry.log_fields import text_of
from app.telemetry.once import Once
from app.thread_pool import ThreadPool

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
UTF8 = "; escaping=allow-utf-8"  # our names need no escaping; not to look for it saves a third of the cost
EOF = b"# EOF\n"  # how OpenMetrics ends
FAMILY = re.compile(r"^# TYPE ((\S+?)(?:_total|_info)?) ", re.MULTILINE)  # its name, and that without the suffix
WAIT_S = 1.0

Encode = Callable[[Collector], bytes]

logger = logging.getLogger(__name__)


class NameTaken(RuntimeError):
    """A metric of the default registry has a name of the application's; the message is one line that says which."""


class Exposition:
    """The metrics of `own`, and of the default registry.

    A metric of the default registry is left out if it fails, takes too long or has a taken name. The log says so once.
    """

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._messages = Once()
        self._hung: Future[list[bytes]] | None = None
        self._thread = ThreadPool(1, "metrics")

    def refuse_taken(self) -> None:
        """Check the names of the metrics that are in the default registry by now.

        Raises:
            NameTaken: one of them has a name that is taken.

        """
        described = [Described(collector) for collector in _shared()]
        for _, taken in self._parts("", choose_encoder("")[0](self._own), described):
            if taken:
                raise NameTaken(f"The application has metrics of its own named {', '.join(taken)}: rename yours.")

    async def encode(self, form: str) -> bytes:
        """Return all metrics as OPENMETRICS or, where the `form` is empty, as text."""
        own = choose_encoder(form + UTF8 if form else "")[0](self._own)
        parts = [own, *await self._encode_default(form, own)]
        return b"".join(part.removesuffix(EOF) for part in parts) + (EOF if form else b"")

    async def _encode_default(self, form: str, own: bytes) -> list[bytes]:
        """Return what the default registry adds; read in a thread, since a team's collector may wait for something."""
        if self._hung and not self._hung.done():
            return []
        reading = self._thread.executor.submit(self._read, form, own)
        await asyncio.wait([asyncio.wrap_future(reading)], timeout=WAIT_S)
        if reading.done():
            return reading.result()
        self._hung = None if reading.cancel() else reading
        self._tell(f"a metric took over {WAIT_S:g} s to read: while it does, none of the default registry is shown")
        return []

    def _read(self, form: str, own: bytes) -> list[bytes]:
        good = []
        for part, taken in self._parts(form, own, _shared()):
            if taken:
                self._tell(f"metrics are not shown, since others have their names: {', '.join(taken)}")
            else:
                good.append(part)
        return good

    def _parts(self, form: str, own: bytes, others: Iterable[Collector]) -> Iterator[tuple[bytes, list[str]]]:
        """Give what each collector adds, and which of its names are taken."""
        encode, seen = choose_encoder(form)[0], {stem for _, stem in _families(own)}
        for collector in others:
            part = self._encode_one(encode, collector)
            families = _families(part)
            stems = [stem for _, stem in families]
            taken = sorted({name for name, stem in families if stem in seen or stems.count(stem) > 1})
            yield part, taken
            seen.update(() if taken else stems)

    def _encode_one(self, encode: Encode, collector: Collector) -> bytes:
        try:
            return encode(collector)
        except Exception as error:  # noqa: BLE001  a team's metric that cannot be read must not cost the others
            self._tell(f"a metric cannot be read, {type(error).__qualname__}: {text_of(collector)}", error)
            return b""

    def _tell(self, message: str, error: Exception | None = None) -> None:
        """Log a message, once."""
        if self._messages.is_new(message):
            logger.error("%s", message, exc_info=error)

    def close(self) -> None:
        """Let go of the thread without waiting for a metric that hangs."""
        self._thread.close()
        self._hung = None


class Described(NamedTuple):
    """A collector of which nothing is read but its names, where it can tell them without its values."""

    collector: Any

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        return getattr(self.collector, "describe", self.collector.collect)()  # type: ignore[no-any-return]


def _shared() -> tuple[Collector, ...]:
    return tuple(REGISTRY._collector_to_names)  # the library has no public list of them


def _families(text: bytes) -> list[tuple[str, str]]:
    return FAMILY.findall(text.decode())
