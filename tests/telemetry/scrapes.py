"""What Prometheus would make of /metrics."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import httpx
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

T = TypeVar("T")

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


class Scrape(NamedTuple):
    """One answer of /metrics."""

    families: list[Metric]

    @property
    def samples(self) -> Iterator[Sample]:
        for family in self.families:
            yield from family.samples

    @property
    def series(self) -> set[tuple[str, frozenset[tuple[str, str]]]]:
        return {(sample.name, frozenset(sample.labels.items())) for sample in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels; there has to be one."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        assert found, f"there is no {name} with {labels}"
        return sum(found)


def scrape(client: httpx.Client) -> Scrape:
    response = client.get("/metrics", headers=OPENMETRICS)
    assert response.status_code == 200
    return Scrape(parse(response))


def parse(response: httpx.Response) -> list[Metric]:
    """Read by the official parsers, of which that of OpenMetrics is strict."""
    is_openmetrics = response.headers["content-type"].startswith("application/openmetrics-text")
    return list((parse_openmetrics if is_openmetrics else parse_text)(response.text))


def until(ask: Callable[[], T], holds: Callable[[T], bool], seconds: float = 10) -> T:
    """Ask until the answer is the one that is waited for."""
    end = time.monotonic() + seconds
    while not holds(answer := ask()):
        assert time.monotonic() < end, f"still {answer}"
        time.sleep(0.02)
    return answer
