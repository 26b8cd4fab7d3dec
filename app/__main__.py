"""The command line: `python -m app --help`. The only one; the Makefile's targets call it."""

import importlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from app import migrations
from app.settings import Settings, SettingsError

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

BANNER = """
  docs   {url}/docs
  token  {token}
  try    curl -H "Authorization: Bearer {token}" {url}/api/tasks
"""


@cli.command()
def dev() -> None:
    """Serve for development: with an embedded PostgreSQL where DATABASE_URL is not set, and a token to start with."""
    with _readable():
        from app.dev import environment

        _import_application()
        with environment.completed(Settings.load()) as settings:
            migrations.migrate(settings)
            theirs = settings.better_auth_url and f"<from {settings.better_auth_url}/api/auth/token>"
            token = theirs or environment.token(settings, "alice", minutes=24 * 60)
            banner = BANNER.format(url=f"http://{settings.host}:{settings.port}", token=token)
            _serve(settings, on_start=lambda: typer.echo(banner))


@cli.command()
def serve() -> None:
    """Serve, against the database at DATABASE_URL, migrated before."""
    with _readable():
        _serve(Settings.complete())
    _end()


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="Or `base`: before the first.")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Down to it instead.")] = False,
) -> None:
    """Bring the schema of the database at DATABASE_MIGRATION_URL, or DATABASE_URL, to a revision."""
    with _readable():
        settings = Settings.load()
        _import_application()
        migrations.migrate(settings, revision, down=down)


@cli.command()
def token(
    user_id: str,
    minutes: Annotated[int, typer.Option(min=1, help="How long it lasts.")] = 24 * 60,
    role: Annotated[str | None, typer.Option(help="Such as admin.")] = None,
) -> None:
    """Print a token for a user, for development alone."""
    with _readable():
        from app.dev import environment

        typer.echo(environment.token(Settings.load(), user_id, minutes, role))


@cli.command()
def seed(user_id: str, tasks: Annotated[int, typer.Option(min=1, help="How many.")] = 200_000) -> None:
    """Give a user many tasks, for development alone: then a search is slow enough to find out why."""
    with _readable():
        _import_application()
        from app.dev import environment
        from app.dev.seed import seed as insert

        environment.checked_user(user_id)
        with environment.completed(Settings.load()) as settings:
            migrations.migrate(settings)
            with typer.progressbar(length=tasks, label=f"tasks of {user_id}") as bar:
                for done in insert(settings, user_id, tasks):
                    bar.update(done - bar.pos)
        typer.echo(f"{user_id} has {tasks:,} more tasks.")


@cli.command()
def openapi(file: Annotated[Path | None, typer.Argument(help="Where to; none is the terminal.")] = None) -> None:
    """Write the OpenAPI document, for generators of clients."""
    with _readable():
        _import_application()
        from app.dev.openapi import document

        text = document()
        try:
            if file:
                file.write_text(text)
            else:
                typer.echo(text, nl=False)
        except OSError as error:
            raise SettingsError(f"{file or 'The document'} cannot be written: {error.strerror}.") from None


@cli.command()
def traffic(
    rate: Annotated[float, typer.Option(min=0.1, max=200, help="Requests a second.")] = 20,
    duration: Annotated[str, typer.Option(help="Seconds, or such as 90s, 5m or 1h.")] = "5m",
    url: Annotated[str | None, typer.Option(help="Of the API; http://127.0.0.1:API_PORT if not given.")] = None,
) -> None:
    """Drive a running API as a day of users would; exit code 1 if any answer was not to be expected."""
    with _readable():
        from app.dev import traffic

        if not traffic.traffic(Settings.load(), url, rate, traffic.seconds(duration)):
            raise typer.Exit(1)


@cli.command()
def smoke(
    replicas: Annotated[int, typer.Option(min=0, help="How many of the API there must be; 0 for any number.")] = 0,
) -> None:
    """Check every link of the running compose stack by asking its services; exit code 1 if any does not hold."""
    with _readable():
        from app.dev import smoke

        if not smoke.smoke(Settings.load(), replicas):
            raise typer.Exit(1)


def _serve(settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
    _import_application()
    from app.serving import serve
    from app.telemetry import logs

    logs.configure(settings)
    serve(settings, on_start)


def _import_application() -> None:
    """Import what every command but the callers needs.

    Raises:
        SettingsError: OpenTelemetry's packages read some of OTEL_* as they are imported, and one of those is wrong.

    """
    try:
        importlib.import_module("app.telemetry.tracing")
    except (ValueError, re.error) as error:
        raise SettingsError(f"An OTEL_* variable is wrong: {error}") from None
    importlib.import_module("app.main")


def _end() -> None:
    """End at once: the interpreter would wait for threads that wait for a frozen database."""
    logging.shutdown()
    os._exit(0)


@contextmanager
def _readable() -> Iterator[None]:
    """End with one readable message and exit code 2 for wrong settings, 1 for what went wrong outside."""
    try:
        yield
    except SettingsError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    except RuntimeError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    cli()
