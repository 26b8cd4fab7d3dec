"""The command line of production: `python -m app --help`."""

import json
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from app import command_line
from app.command_line import import_application, readable_errors
from app.settings import Settings, SettingsError
from app.settings.types import MIN_SECRET_BYTES

cli = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@cli.command()
def serve() -> None:
    """Serve, against the database at DATABASE_URL, migrated before."""
    with readable_errors():
        command_line.serve(Settings.complete())
    logging.shutdown()
    os._exit(0)  # at once: the interpreter would wait for threads that wait for a frozen database


@cli.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="The revision to reach; `base` is the empty schema.")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Downgrade to this revision.")] = False,
) -> None:
    """Bring the schema of the database at DATABASE_MIGRATION_URL, or DATABASE_URL, to a revision."""
    from app import migrations
    from app.migrations.report import Report, end_at_signal

    report = Report()
    end_at_signal(report)
    with readable_errors():
        settings = Settings.load()
        import_application()
        from app.telemetry import logs

        logs.configure(settings)
        migrations.migrate(settings, revision, down=down, report=report)


@cli.command()
def token(
    user_id: str,
    minutes: Annotated[int, typer.Option(min=1, help="How long it lasts.")] = 24 * 60,
    claim: Annotated[list[str] | None, typer.Option(help="Such as role=admin, or any JSON; may be repeated.")] = None,
) -> None:
    """Print a token for a user, for development only."""
    with readable_errors():
        import_application()
        from app.auth import development

        typer.echo(development.token(Settings.load(), user_id, minutes, claim or []))


@cli.command()
def openapi(file: Annotated[Path | None, typer.Argument(help="The terminal if not given.")] = None) -> None:
    """Write the OpenAPI document, for generators of clients; it needs no database and no secret."""
    with readable_errors():
        import_application()
        from app.main import create_app

        unused = {"database_url": "postgresql://nowhere/nothing", "better_auth_secret": "-" * MIN_SECRET_BYTES}
        settings = Settings.load(environment="development", **unused)
        servers = {"servers": [{"url": settings.root_path}]} if settings.root_path else {}
        text = json.dumps(create_app(settings).openapi() | servers, indent=2) + "\n"
        try:
            if file:
                file.write_text(text)
            else:
                typer.echo(text, nl=False)
        except OSError as error:
            raise SettingsError(f"{file or 'The document'} cannot be written: {error.strerror}.") from None


if __name__ == "__main__":
    cli()
