"""What the commands of `app` and `devtools` share: an error is one line on standard error."""

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from app.settings import Settings, SettingsError


@contextmanager
def readable_errors() -> Iterator[None]:
    """End with the error's message and exit code 2 if the settings are wrong, 1 if the command cannot run."""
    try:
        yield
    except typer.Exit:  # a RuntimeError by its base, and it has nothing to say
        raise
    except (SettingsError, RuntimeError) as error:
        typer.echo(f"{error}", err=True)
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from None


def import_application() -> None:
    """Raise SettingsError if OpenTelemetry's packages, which read some of OTEL_* on import, find one that is wrong."""
    try:
        importlib.import_module("app.telemetry.tracing")
    except (ValueError, re.error) as error:
        raise SettingsError(f"An OTEL_* variable is wrong: {error}") from None
    importlib.import_module("app.main")


def serve(settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
    """Serve with `settings` until SIGINT or SIGTERM; call `on_start` once connections are accepted."""
    import_application()
    from app import serving

    serving.serve(settings, on_start)
