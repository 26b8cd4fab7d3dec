"""The application's own metrics over the last minutes, read only while somebody looks: so their history begins then."""

import time
from collections import deque
from sys import intern
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

EVERY_MS, KEPT = 5000, 180
MEMORY = "process_resident_memory_bytes"


class Now:
    """The metrics of one application, or none."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._registries: list[Any] = [registry, REGISTRY.restricted_registry([MEMORY])] if registry else []
        self._readings: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def look(self, after: int = 0) -> list[dict[str, Any]]:
        """Return the readings after a time in milliseconds since 1970; take one if it is time for it."""
        now = int(time.time() * 1000)
        if self._registries and (not self._readings or now - self._readings[-1]["at"] >= EVERY_MS * 0.9):
            samples = [s for own in self._registries for metric in own.collect() for s in metric.samples]
            values = {intern("|".join((s.name, *s.labels.values()))): s.value for s in samples if s.value}
            self._readings.append({"at": now, "values": values})
        return [reading for reading in self._readings if reading["at"] > after]
