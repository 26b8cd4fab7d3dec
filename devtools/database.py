"""The commands that work on the development database: that of DATABASE_URL, or else the embedded one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from app.command_line import import_application, readable_errors
from app.settings import Settings, SettingsError

cli = typer.Typer(add_completion=False)
REST = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@contextmanager
def development_database() -> Iterator[Settings]:
    """Yield settings that name a running database. What is wrong is one line."""
    with readable_errors():
        from devtools import environment

        with environment.complete(Settings.load()) as settings:
            yield settings


class BrokenCode(RuntimeError):
    """The application cannot be imported. The message is one line that says where."""


def import_models() -> None:
    """Import every model of the application, or raise BrokenCode, or SettingsError for a wrong OTEL_* variable."""
    try:
        import_application()
    except SettingsError:
        raise
    except Exception as error:  # noqa: BLE001  code that is being written may raise anything
        from devtools.serve import explain

        raise BrokenCode(explain(error)) from None


@cli.command(context_settings=REST)
def psql(context: typer.Context) -> None:
    """Open psql in it; arguments go to psql."""
    with development_database() as settings:
        from devtools.psql import open_psql

        code = open_psql(settings, context.args, typer.echo)
    raise typer.Exit(code)


@cli.command()
def migration(message: Annotated[str, typer.Argument(help='What it does, such as "add color to board".')] = "") -> None:
    """Write a migration from what the models say and the database does not have."""
    with development_database() as settings:
        import_models()
        from devtools.migration import write_migration

        write_migration(settings, message, typer.echo)


@cli.command()
def migrate(
    down: Annotated[str | None, typer.Option(help="How many to take back, or a revision, or base.")] = None,
) -> None:
    """Apply all migrations, or take some back."""
    with development_database() as settings:
        import_models()
        from devtools import history

        done = history.migrate(settings) if down is None else history.take_back(settings, down)
        typer.echo(f"The database is at {done.revision or 'base, the empty schema'}.")
        if line := done.edited():
            typer.echo(line, err=True)


@cli.command(context_settings=REST)
def alembic(context: typer.Context) -> None:
    """Run Alembic's own command line on it, such as `check` or `history`."""
    with development_database() as settings:
        import_models()
        from devtools.migration import run_alembic

        run_alembic(settings, context.args)


@cli.command()
def reset() -> None:
    """Empty the embedded database, and apply all migrations."""
    with development_database() as settings:
        import_models()
        from devtools.reset import reset_database

        typer.echo(f"The database is empty, and at {reset_database(settings)}.")
