"""`python -m benchmarks run | check | count`: the Makefile's targets call it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import plots, report
from benchmarks.rounds import Show
from benchmarks.run import FULL, QUICK, STATE, measure_all, measure_instructions, measure_ratios
from benchmarks.targets import MEASURED, ratios_by_call, worse
from devtools.postgres import PostgresFailed

HERE = Path(__file__).parent
RECORDED, COUNTED = HERE / "results.json", HERE / "instructions.json"

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(soft_wrap=True)


@cli.command()
def run(
    quick: Annotated[bool, typer.Option(help="A few minutes, to see whether it works: numbers are rough.")] = False,
    record: Annotated[
        bool, typer.Option(help="Keep the results in benchmarks/: the pages' tables are made of them.")
    ] = False,
    peers: Annotated[bool, typer.Option(help="Measure Fastify as well, which npm installs.")] = False,
) -> None:
    """Measure everything (half an hour), print it, and write results.json, results.md and the plots."""
    with show_progress() as show:
        results = measure_all(QUICK if quick else FULL, show, with_peers=peers)
    report.show(results, console)
    folder = HERE if record else STATE.with_name("bench-results")
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text(report.markdown(results))
    plots.draw(results, folder)
    console.print(f"written to {folder}")


@cli.command()
def check(
    quick: Annotated[bool, typer.Option(help="A minute: for information, since its ratios vary.")] = False,
    against: Annotated[
        Path, typer.Option(help="The results of an earlier run.", exists=True, dir_okay=False)
    ] = RECORDED,
) -> None:
    """Compare the ratios of CPU a request with the recorded ones; exit code 1 if one is more than a tenth worse."""
    recorded: dict[str, float] = json.loads(against.read_text())["ratios"]
    with show_progress() as show:
        found = measure_ratios(QUICK if quick else FULL, show)
    compare("CPU a request", {name: recorded[name] for name in found if name in recorded}, found)


@cli.command()
def count(
    record: Annotated[
        bool, typer.Option(help="Keep the numbers in benchmarks/: docs/performance.md shows them.")
    ] = False,
) -> None:
    """Count the instructions a request takes (valgrind, five minutes); exit code 1 if a ratio is a tenth worse."""
    with show_progress() as show:
        found = measure_instructions(show)
    head, rows = ("mode", *MEASURED), report.instruction_rows(found)
    report.show_table(console, "Thousands of instructions a request", head, rows)
    if record:
        COUNTED.write_text(json.dumps(found, indent=1) + "\n")
    compare("Instructions a request", ratios_by_call(json.loads(COUNTED.read_text())), ratios_by_call(found))


def compare(title: str, recorded: Mapping[str, float], found: Mapping[str, float]) -> None:
    """Show how ratios have changed. Exit with 1 if one is more than a tenth worse."""
    rows = [
        (name, f"{was:.3f}", f"{found[name]:.3f}", f"{found[name] / was - 1:+.0%}") for name, was in recorded.items()
    ]
    report.show_table(console, title, ("ratio", "recorded", "found", "change"), rows)
    if names := worse(recorded, found):
        console.print(f"more than a tenth worse: {'; '.join(names)}")
        raise typer.Exit(1)


@contextmanager
def show_progress() -> Iterator[Show]:
    """Show what is done now. If something cannot be started, end with one line."""
    try:
        with console.status("starting") as status:
            yield status.update
    except (PostgresFailed, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    cli()
