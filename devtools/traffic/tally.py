"""What came back from a run of traffic: counts and times of each action, and the slowest traces."""

from collections import Counter, defaultdict
from statistics import quantiles

from rich.table import Table

from devtools.traffic.actions import EXPECTED, Sample

SLOWEST = 3


class Tally:
    """Counts samples. An answer is `unexpected` if the contract does not have its status for the request."""

    def __init__(self) -> None:
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)
        self.answers = self.unexpected = 0

    def add(self, sample: Sample) -> None:
        """Count one answer."""
        self._samples[sample.action].append(sample)
        self.answers += 1
        self.unexpected += sample.status not in EXPECTED[sample.action]

    def __str__(self) -> str:
        return f"{self.answers} answers, {self.unexpected} unexpected"

    def table(self) -> Table:
        """Return a table with a row for each action."""
        table = Table("action", "requests", "answers", "p50 ms", "p95 ms", "slowest ms", title=f"{self}")
        for column in table.columns:
            column.justify = "left" if column.header in {"action", "answers"} else "right"
        for action in (name for name in EXPECTED if name in self._samples):
            samples = self._samples[action]
            table.add_row(action, str(len(samples)), _statuses(action, samples), *_milliseconds(samples))
        return table

    def slowest(self, prefix: str) -> list[str]:
        """Return a line for each of the slowest requests that have a trace: `prefix` and the trace's id."""
        traced = [sample for samples in self._samples.values() for sample in samples if sample.trace_id]
        traced.sort(key=lambda sample: -sample.seconds)
        return [f"{s.seconds * 1000:6.0f} ms  {s.action:11}  {prefix}{s.trace_id}" for s in traced[:SLOWEST]]


def _statuses(action: str, samples: list[Sample]) -> str:
    """Return how often each status came, unexpected ones in red."""
    counts = sorted(Counter(sample.status for sample in samples).items())
    texts = {status: f"{number} x {status or 'no answer'}" for status, number in counts}
    return ", ".join(text if status in EXPECTED[action] else f"[red]{text}[/]" for status, text in texts.items())


def _milliseconds(samples: list[Sample]) -> tuple[str, str, str]:
    """Return the median, the 95th percentile and the maximum of their times."""
    times = sorted(sample.seconds * 1000 for sample in samples)
    cuts = quantiles(times, n=20, method="inclusive") if len(times) > 1 else times * 19
    return f"{cuts[9]:.0f}", f"{cuts[18]:.0f}", f"{times[-1]:.0f}"
