"""The command line of development: `python -m devtools --help`. The Makefile's targets call it."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from app.command_line import import_application, readable_errors
from app.settings import Settings
from devtools import database

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
cli.add_typer(database.cli)


@cli.command()
def dev() -> None:
    """Serve for development, again after each change of `app/`, and print a token.

    If DATABASE_URL is not set, an embedded PostgreSQL is started.
    """
    with readable_errors():
        from devtools import environment
        from devtools.offer import offer
        from devtools.reload import Reloader

        with environment.complete(Settings.load()) as settings:
            offer(f"http://{settings.host}:{settings.port}/_dev/")
            code = Reloader(typer.echo).run()
    raise typer.Exit(code)


@cli.command()
def replay(
    file: Annotated[Path, typer.Argument(help="OTLP's JSON, or what Jaeger's /api/traces/ID answers.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 0,
) -> None:
    """Show a trace that was saved in the page that `make dev` has, on 127.0.0.1."""
    with readable_errors():
        from devtools.page.replay import replay as show

        show(file, port, typer.echo)


@cli.command()
def seed(
    user_id: str,
    rows: Annotated[int, typer.Option(min=1, help="How many.")] = 200_000,
    table: Annotated[str, typer.Option(help="It has a title, a description, and whether it is completed.")] = "task",
) -> None:
    """Create many rows for a user, so that a search is slow enough to look at."""
    with readable_errors():
        import_application()
        from app import migrations
        from app.auth import development
        from devtools import environment
        from devtools.seed import seed as insert

        development.check_user_id(user_id)
        with environment.complete(Settings.load()) as settings:
            migrations.migrate(settings)
            with typer.progressbar(length=rows, label=f"{table} of {user_id}") as bar:
                for done in insert(settings, table, user_id, rows):
                    bar.update(done - bar.pos)
        typer.echo(f"{user_id} has {rows:,} more rows in {table}.")


@cli.command()
def traffic(
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="Requests a second.")] = 20,
    duration: Annotated[str, typer.Option(help="Seconds, or such as 90s, 5m or 1h.")] = "5m",
    url: Annotated[str | None, typer.Option(help="Of the API; the default is http://127.0.0.1:API_PORT.")] = None,
) -> None:
    """Send what users send in a day to a running API; exit code 1 if an answer was not expected."""
    with readable_errors():
        import_application()
        from devtools.traffic.run import parse_duration, send_traffic

        if not send_traffic(Settings.load(), url, rate, parse_duration(duration)):
            raise typer.Exit(1)


@cli.command()
def smoke(
    replicas: Annotated[int, typer.Option(min=0, help="Replicas of the API that must run; 0 for any number.")] = 0,
) -> None:
    """Check every link of the running compose stack; exit code 1 if a check fails."""
    with readable_errors():
        import_application()
        from devtools.smoke.run import check_stack

        if not check_stack(Settings.load(), replicas):
            raise typer.Exit(1)


@cli.command()
def drill(
    name: Annotated[str, typer.Argument(help="One of `drill list`; `all` makes each in turn.")] = "list",
    on: Annotated[
        str, typer.Option(help="`dev`, the running `make dev`; `stack`; or `own`, a server of its own.")
    ] = "dev",
    duration: Annotated[str, typer.Option(help="Seconds, or such as 90s, 5m or 1h, for each.")] = "10m",
) -> None:
    """Make an incident on this machine, to practise on, and say where it shows; Ctrl-C takes it back."""
    with readable_errors():
        import_application()
        from devtools.drill import run
        from devtools.traffic.run import parse_duration

        if name == "list":
            run.show_list(typer.echo)
        else:
            run.run(name, on, parse_duration(duration), typer.echo)


@cli.command()
def lint() -> None:
    """Say what is wrong with the migrations, a line a finding; exit code 1 if there is one. It needs no database."""
    with readable_errors():
        database.import_models()
        from devtools.lint import find_faults

        faults = find_faults()
    for line in faults:
        typer.echo(line)
    if faults:
        raise typer.Exit(1)


@cli.command()
def licenses() -> None:
    """Say which locked package has a license that pyproject.toml does not allow; exit code 1 if there is one."""
    from devtools.supply.licenses import check_licenses

    faults, summary = check_licenses(Path(__file__).parents[1])
    for line in (*faults, summary):
        typer.echo(line)
    if faults:
        raise typer.Exit(1)


@cli.command()
def sbom() -> None:
    """Write the bill of materials of each lock file, in CycloneDX's JSON, into .dev/sbom."""
    from devtools.supply.sbom import write_sboms

    for path in write_sboms(Path(__file__).parents[1]):
        typer.echo(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@cli.command()
def audit() -> None:
    """Ask which advisories name a locked package.

    Exit code 0: none. 1: there is one. 3: not all packages were checked, since no service answers or knows them.
    """
    from devtools.supply.audit import audit as ask

    lines, code = ask(Path(__file__).parents[1])
    for line in lines:
        typer.echo(line)
    raise typer.Exit(code)


@cli.command()
def manifests() -> None:
    """Write the rules of observability/ anew where Kubernetes takes them."""
    from devtools.manifests import MANIFEST, make_rules

    MANIFEST.write_text(make_rules())


@cli.command()
def pictures() -> None:
    """Take the pictures of docs/ anew, of the running program in a headless Chromium; a Jaeger must be there."""
    with readable_errors():
        from devtools.pictures import take_pictures

        take_pictures(typer.echo)


@cli.command()
def stack(scale: Annotated[str, typer.Option(metavar="api=N", help="Replicas of the API.")] = "api=1") -> None:
    """Start the compose stack, or bring it up to date; `make stack` does so without a `.venv`."""
    from devtools.stack.start import main

    main(["--scale", scale])


@cli.command()
def entity(
    name: Annotated[str, typer.Argument(help="What one is called, or what many are, such as board or boards.")],
    plural: Annotated[str, typer.Option(help="What many are called; NAME is then what one is.")] = "",
    parent: Annotated[str, typer.Option(help="The entity that each one belongs to.")] = "",
) -> None:
    """Make an entity of your own: its folder, its tests, its migration and its line in app/main.py."""
    from devtools.entity import EntityError, make_entity

    for signum in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)  # as Ctrl-C, which leaves nothing half written
    try:
        typer.echo(make_entity(Path(__file__).parents[1], name, plural, parent), nl=False)
    except (EntityError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@cli.command()
def rename(name: str) -> None:
    """Give this project a name of its own; `make rename NAME=...` does so without a `.venv`."""
    from devtools.rename import main

    main(name)


if __name__ == "__main__":
    cli()
