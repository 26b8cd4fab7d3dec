"""Everything that is on /metrics: the application's own metrics, and those of prometheus_client's default registry.

The default registry is where prometheus_client's documentation puts a metric, so a team's are there, and those of the
process.
"""

import logging
from collections.abc import Callable
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import DuplicateTimeseries
from prometheus_client.registry import Collector

EOF = b"# EOF\n"  # how OpenMetrics ends

Encode = Callable[[Any], bytes]

logger = logging.getLogger(__name__)


class NameTaken(RuntimeError):
    """A metric of the default registry has a name of the application's; the message is one line that says which."""


class Exposition:
    """The metrics of `own` and of the default registry, each of which is read by itself.

    One of the default registry that fails, or whose name is taken, is left out and logged once.
    """

    def __init__(self, own: CollectorRegistry) -> None:
        self._own = own
        self._seen: tuple[Collector, ...] = ()
        self._good: list[Collector] = []
        self._failed: set[Collector] = set()

    def refuse_taken(self) -> None:
        """Check the metrics that are in the default registry by now.

        Raises:
            NameTaken: one of them has a name that is taken.

        """
        if taken := self._choose():
            raise NameTaken(f"The application has metrics of its own named {', '.join(taken)}: rename yours.")

    def encoded(self, encode: Encode) -> bytes:
        """Return all metrics, each registry and collector as `encode` writes it."""
        if _shared() != self._seen and (taken := self._choose()):
            logger.error("metrics are not shown, the application has some of its own named %s", ", ".join(taken))
        own = encode(self._own)
        others = [self._encoded(encode, collector) for collector in self._good]
        end = EOF if own.endswith(EOF) else b""
        return b"".join(part.removesuffix(EOF) for part in (own, *others)) + end

    def _choose(self) -> list[str]:
        """Choose the collectors to read; return the names that others have taken."""
        self._seen, self._good = _shared(), []
        names, taken = CollectorRegistry(auto_describe=True), set[str]()
        names.register(self._own)
        for collector in self._seen:
            try:
                names.register(collector)
            except DuplicateTimeseries as error:
                taken |= error.duplicates
                continue
            except Exception:  # noqa: BLE001, S110  it cannot be read, and is logged when it is read
                pass
            self._good.append(collector)
        return sorted(taken)

    def _encoded(self, encode: Encode, collector: Collector) -> bytes:
        try:
            return encode(collector)
        except Exception as error:
            if collector not in self._failed:
                self._failed.add(collector)
                logger.exception("a metric cannot be read, %s: %s", type(error).__qualname__, collector)
            return b""


def _shared() -> tuple[Collector, ...]:
    return tuple(REGISTRY._collector_to_names)  # the library has no public list of them
