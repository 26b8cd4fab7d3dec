"""The command line: `python -m app --help`. The only one; the Makefile's targets call it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from app import migrations
from app.serving import NotServing
from app.serving import serve as serve_app
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

        with environment.completed(Settings.load()) as settings:
            migrations.migrate(settings)
            theirs = settings.better_auth_url and f"<from {settings.better_auth_url}/api/auth/token>"
            token = theirs or environment.token(settings, "alice", minutes=24 * 60)
            banner = BANNER.format(url=f"http://{settings.host}:{settings.port}", token=token)
            serve_app(settings, on_start=lambda: typer.echo(banner))


@cli.command()
def serve() -> None:
    """Serve, against the database at DATABASE_URL, migrated before."""
    with _readable():
        settings = Settings.load()
        if missing := settings.missing():
            raise SettingsError("\n".join(f"{line} here; `make dev` brings its own." for line in missing))
        serve_app(settings)
    _end()


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="Or `base`: before the first.")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Down to it instead.")] = False,
) -> None:
    """Bring the schema of the database at DATABASE_MIGRATION_URL, or DATABASE_URL, to a revision."""
    with _readable():
        migrations.migrate(Settings.load(), revision, down=down)


@cli.command()
def token(user_id: str, minutes: Annotated[int, typer.Option(min=1, help="How long it lasts.")] = 24 * 60) -> None:
    """Print a token for a user, for development alone."""
    with _readable():
        from app.dev import environment

        typer.echo(environment.token(Settings.load(), user_id, minutes))


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
    except (NotServing, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    cli()
