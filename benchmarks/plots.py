"""The results of a run as plots: SVG files beside the tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.calls import CALLS

MILLION = 1_000_000

Lines = Mapping[str, Mapping[str, float]]  # the name of a line, then what it depends on: the number


def draw(results: Mapping[str, Any], folder: Path) -> None:
    """Write results.svg, and a plot of each study of growth."""
    _bars(results["costs"], folder / "results.svg")
    users = {"us a request": results["users"]["us"], "MiB": results["users"]["MiB"]}
    _lines("Reading one, CPU us, by a team's routes", results["routes"], folder / "routes.svg")
    _lines("A request, CPU us, by attributes of its span", {"on": results["attributes"]}, folder / "attributes.svg")
    _lines("The limiter, by users", users, folder / "users.svg")
    _lines("Median ms, by rows of the table", results["rows"], folder / "rows.svg")


def _bars(costs: Mapping[str, Any], file: Path) -> None:
    """Draw the CPU a request in each mode."""
    modes = list(reversed(list(costs)))
    chart = _chart("HorizontalBar", "CPU us a request", 900, 700)
    chart.x_labels = modes
    for call in CALLS:
        chart.add(call, [costs[mode][call]["cpu_us"] for mode in modes])
    file.write_bytes(chart.render())


def _lines(title: str, lines: Lines, file: Path) -> None:
    """Draw how numbers grow, from 0."""
    chart = _chart("Line", title, 440, 320)
    chart.x_labels = [_label(int(number)) for number in next(iter(lines.values()))]
    for name, found in lines.items():
        chart.add(name, list(found.values()))
    file.write_bytes(chart.render())


def _label(number: int) -> str:
    return f"{number // MILLION} M" if number >= MILLION else f"{number:,}"


def _chart(kind: str, title: str, width: int, height: int) -> Any:
    import pygal  # noqa: PLC0415  it puts a hook into all later imports, which warns below Python 3.12
    from pygal.style import CleanStyle  # noqa: PLC0415

    style = CleanStyle(title_font_size=13, legend_font_size=11)
    size = {"width": width, "height": height, "explicit_size": True, "legend_at_bottom": True, "include_x_axis": True}
    return getattr(pygal, kind)(style=style, title=title, js=(), **size)
