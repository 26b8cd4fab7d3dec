"""The results of a run as tables for a terminal and for Markdown. Ratios come first."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.calls import CALLS, HEAVY
from benchmarks.targets import MEASURED, VERDICT, Target, targets

Row = Sequence[str]
NAMED = {"cpu_us": "CPU us", "per_second": "a second", "p50_ms": "p50 ms", "p95_ms": "p95 ms", "p99_ms": "p99 ms"}

SHOWN = {"get": "read one", "post": "create one"}
SUMMARY = {
    "on": "this template, on",
    "off": "this template, off",
    "textbook on": "usual wiring, on",
    "textbook off": "usual wiring, off",
    "fastify on": "Fastify, on",
}
STUDIES = ("start", "memory", "lists", "steady", "overload", "routes", "attributes", "users", "rows")


def promise_rows(found: Iterable[Target]) -> list[Row]:
    """Return a row for each target."""
    return [
        (t.name, f"{t.found:.2f}", f"{'at least' if t.at_least else 'at most'} {t.bound:g}", VERDICT[t.holds])
        for t in found
    ]


def cost_rows(results: Mapping[str, Any]) -> list[Row]:
    """Return a row for each mode: CPU us a request of each call, reads a second, and the memory the process holds."""
    return [
        (mode, *_cpu(found, CALLS), f"{found['get']['per_second']:,.0f}", f"{results['rss_mib'][mode]:.0f}")
        for mode, found in results["costs"].items()
    ]


def heavy_rows(heavy: Mapping[str, Any]) -> list[Row]:
    """Return a row for each mode: CPU ms a request of each call that takes more."""
    return [(mode, *(f"{found[call]['cpu_us'] / 1000:.1f}" for call in HEAVY)) for mode, found in heavy.items()]


def overload_rows(study: Mapping[str, Any]) -> list[Row]:
    """Return a row for each load: the shares of good answers in time and of refusals, and the longest wait."""
    return [
        (f"{times} times", f"{found['good_share']:.0%}", f"{found['refused_share']:.1%}", f"{found['longest_s']:.2f}")
        for times, found in study["times"].items()
    ]


def _cpu(found: Mapping[str, Any], calls: Iterable[str]) -> Iterator[str]:
    return (f"{found[call]['cpu_us']:,.0f}" for call in calls)


def instruction_rows(counts: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Return a row for each mode: thousands of instructions a request of each call."""
    return [(mode, *(f"{found[call]:,.0f}" for call in MEASURED)) for mode, found in counts.items()]


def summary_rows(costs: Mapping[str, Any]) -> list[Row]:
    """Return a row for each mode that the README shows: CPU us a request, and reads a second of one core."""
    return [
        (told, *_cpu(costs[mode], SHOWN), f"{costs[mode]['get']['per_second']:,.0f}")
        for mode, told in SUMMARY.items()
        if mode in costs
    ]


def call_rows(costs: Mapping[str, Any], call: str) -> list[Row]:
    """Return a row for each mode: everything about one call."""
    return [
        (
            mode,
            *(f"{found[call][name]:.{0 if name in ('cpu_us', 'per_second') else 1}f}" for name in NAMED),
            f"{found[call]['spread']:.0%}",
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
    for title, head, rows in tables(results):
        show_table(console, title, head, rows)
    for costs in (results["costs"], results["heavy"]):
        for call in next(iter(costs.values())):
            show_table(console, call, ("mode", *NAMED.values(), "spread"), call_rows(costs, call))
    for name in STUDIES:
        show_table(console, name, ("", ""), study_rows(results[name]))
    console.print(describe_run(results), highlight=False)


def tables(results: Mapping[str, Any]) -> list[tuple[str, Row, list[Row]]]:
    """Return the titles, heads and rows of the tables of docs/performance.md."""
    return [
        ("Ratios of one run", ("promise", "found", "bound", ""), promise_rows(targets(results))),
        ("CPU us a request", ("CPU us a request", *CALLS, "reads a second", "MiB"), cost_rows(results)),
        ("Larger calls", ("CPU ms a request", *HEAVY), heavy_rows(results["heavy"])),
        ("Overload", ("load", "good answers", "refused", "longest wait, s"), overload_rows(results["overload"])),
    ]


def show_table(console: Console, title: str, head: Row, rows: Iterable[Row]) -> None:
    """Print one table."""
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def markdown(results: Mapping[str, Any]) -> str:
    """Return the tables: the first is in the README, all others are in docs/performance.md."""
    summary = markdown_table(("CPU us a request", *SHOWN.values(), "reads a second"), summary_rows(results["costs"]))
    others = [markdown_table(head, rows) for _, head, rows in tables(results)]
    return "\n\n".join((summary, *others, describe_run(results))) + "\n"


def markdown_table(head: Row, rows: Iterable[Row]) -> str:
    """Return one table."""
    lines = [head, ("---", *("--:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
