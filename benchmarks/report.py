"""The results of a run as tables for a terminal and for Markdown, and as a plot. Ratios come first."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.calls import CALLS
from benchmarks.targets import MEASURED, VERDICT, Target, targets

Row = Sequence[str]
NAMED = {"cpu_us": "CPU us", "per_second": "a second", "p50_ms": "p50 ms", "p95_ms": "p95 ms", "p99_ms": "p99 ms"}

SHOWN = {"get": "read one", "list": "list 20", "post": "create one"}
SUMMARY = {
    "on": "this template, everything on",
    "off": "this template, everything off",
    "textbook on": "the usual wiring, everything on",
    "textbook off": "the usual wiring, everything off",
}
STUDIES = ("start", "memory", "lists", "steady", "70 %", "3 times")


def promise_rows(found: Iterable[Target]) -> list[Row]:
    """Return a row for each target."""
    return [
        (t.name, f"{t.found:.2f}", f"{'at least' if t.at_least else 'at most'} {t.bound:g}", VERDICT[t.holds])
        for t in found
    ]


def cost_rows(costs: Mapping[str, Any]) -> list[Row]:
    """Return a row for each mode: CPU us a request of each call, and the memory the process holds."""
    return [
        (mode, *(f"{found['calls'][call]['cpu_us']:.0f}" for call in CALLS), f"{found['rss_mib']:.0f}")
        for mode, found in costs.items()
    ]


def instruction_rows(counts: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Return a row for each mode: thousands of instructions a request of each call."""
    return [(mode, *(f"{found[call]:,.0f}" for call in MEASURED)) for mode, found in counts.items()]


def summary_rows(costs: Mapping[str, Any]) -> list[Row]:
    """Return a row for each mode that the README shows: CPU us a request."""
    return [
        (told, *(f"{costs[mode]['calls'][call]['cpu_us']:,.0f}" for call in SHOWN)) for mode, told in SUMMARY.items()
    ]


def call_rows(costs: Mapping[str, Any], call: str) -> list[Row]:
    """Return a row for each mode: everything about one call."""
    return [
        (
            mode,
            *(f"{found['calls'][call][name]:.{0 if name in ('cpu_us', 'per_second') else 1}f}" for name in NAMED),
            f"{found['calls'][call]['spread']:.0%}",
        )
        for mode, found in costs.items()
    ]


def study_rows(study: Mapping[str, Any], prefix: str = "") -> list[Row]:
    """Return a row for each number of a study."""
    rows: list[Row] = []
    for name, value in study.items():
        if isinstance(value, Mapping):
            rows += study_rows(value, f"{prefix}{name}: ")
        else:
            rows.append((f"{prefix}{name}", f"{value:,.2f}" if isinstance(value, float) else str(value)))
    return rows


def describe_run(results: Mapping[str, Any]) -> str:
    """Return the machine and the versions of the packages."""
    packages = ", ".join(f"{name} {version}" for name, version in results["packages"].items())
    return f"{results['machine']}; {packages}."


def show(results: Mapping[str, Any], console: Console) -> None:
    """Print all results."""
    head = ("promise", "found", "bound", "")
    show_table(console, "Ratios of one run", head, promise_rows(targets(results)))
    costs = results["costs"]
    show_table(console, "CPU us a request, and MiB", ("mode", *CALLS, "MiB"), cost_rows(costs))
    for call in CALLS:
        show_table(console, call, ("mode", *NAMED.values(), "spread"), call_rows(costs, call))
    for name in STUDIES:
        show_table(console, name, ("", ""), study_rows(results[name]))
    console.print(describe_run(results), highlight=False)


def show_table(console: Console, title: str, head: Row, rows: Iterable[Row]) -> None:
    """Print one table."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables: the first is in the README, all are in docs/performance.md."""
    costs = results["costs"]
    parts = (
        markdown_table(("CPU us a request", *SHOWN.values()), summary_rows(costs)),
        markdown_table(("promise", "found", "bound", ""), promise_rows(targets(results))),
        markdown_table(("CPU us a request", *CALLS, "MiB"), cost_rows(costs)),
        describe_run(results),
    )
    return "\n\n".join(parts) + "\n"


def markdown_table(head: Row, rows: Iterable[Row]) -> str:
    """Return one table."""
    lines = [head, ("---", *("--:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(results: Mapping[str, Any], file: Path) -> None:
    """Draw the CPU a request in each mode, as SVG."""
    import pygal  # noqa: PLC0415  it puts a hook into all later imports, which warns below Python 3.12
    from pygal.style import CleanStyle  # noqa: PLC0415

    costs = results["costs"]
    chart = pygal.HorizontalBar(
        style=CleanStyle,
        title="CPU us a request",
        js=(),
        legend_at_bottom=True,
        width=900,
        height=700,
    )
    chart.x_labels = list(reversed(costs))
    for call in CALLS:
        chart.add(call, [costs[mode]["calls"][call]["cpu_us"] for mode in reversed(costs)])
    file.write_bytes(chart.render())
