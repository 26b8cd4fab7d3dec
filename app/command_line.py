"""What the commands of `app` and `devtools` share: they end with one line where something is wrong."""

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from app.settings import Settings, SettingsError


@contextmanager
def readable_errors() -> Iterator[None]:
    """End with one line and exit code 2 for wrong settings, 1 for any other reason why the command cannot run."""
    try:
        yield
    except SettingsError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2) from None
    except RuntimeError as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(1) from None


def import_application() -> None:
    """Import the application.

    Raises:
        SettingsError: OpenTelemetry's packages read some of OTEL_* when they are imported, and one of those is wrong.

    """
    try:
        importlib.import_module("app.telemetry.tracing")
    except (ValueError, re.error) as error:
        raise SettingsError(f"An OTEL_* variable is wrong: {error}") from None
    importlib.import_module("app.main")


def serve(settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
    """Serve with `settings` until SIGINT or SIGTERM; call `on_start` once connections are accepted."""
    import_application()
    from app import serving
    from app.telemetry import logs

    logs.configure(settings)
    serving.serve(settings, on_start)
