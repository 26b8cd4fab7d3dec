"""Metrics that somebody else counts, read when Prometheus asks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Family = CounterMetricFamily | GaugeMetricFamily
Labels = str | tuple[str, ...]


@dataclass(frozen=True)
class Reading(Collector):
    """A metric that somebody else counts: `read` gives its number, or one for each value of its label or labels.

    It is read when Prometheus asks: so counting costs a request no lock.
    """

    family: type[Family]
    name: str
    documentation: str
    read: Callable[[], float | Mapping[Any, float]]
    label: Labels = ()
    values: tuple[str, ...] = ()  # of the label, which are there from the start

    def collect(self) -> Iterator[Family]:
        """Read it."""
        family = self.family(self.name, self.documentation, labels=listed(self.label))
        found = self.read()
        numbers = {**dict.fromkeys(self.values, 0.0), **found} if isinstance(found, Mapping) else {(): found}
        for value, number in numbers.items():
            family.add_metric(listed(value), number)
        yield family


def listed(names: Labels) -> tuple[str, ...]:
    """Return one name, or several, as several."""
    return (names,) if isinstance(names, str) else names


counter, gauge = partial(Reading, CounterMetricFamily), partial(Reading, GaugeMetricFamily)
