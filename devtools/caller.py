"""How the development tools call a running API: where it is, and with whose tokens."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import httpx
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.auth import development
from app.settings import Settings, refusal
from app.settings.types import Port

OK, LIMITED = 200, 429
STACK_SECRET = "change-me-to-at-least-32-random-bytes"  # noqa: S105  docker-compose.yml starts with it, known to all
ARCHIVIST = "archivist"
ARCHIVED = 80  # with the searches of the same minute, within the default limit
ARCHIVE_TEXT = "a" * 10_000
SLOW_SEARCH = "a" * 199 + "b"  # at each character of the archive, 199 more are compared before it fails


class NoAnswer(RuntimeError):
    """The API is not there, or takes no token made here; the message is one line that says what to do."""


class Endpoints(BaseSettings):
    """Where the stack's services are, by the variables that docker-compose.yml reads."""

    model_config = SettingsConfigDict(env_file=Path(".env"), extra="ignore", env_ignore_empty=True)

    api_port: Port = 8000
    grafana_port: Port = 3000
    jaeger_port: Port = 16686
    prometheus_port: Port = 9090
    grafana_password: SecretStr = SecretStr("admin")

    @classmethod
    def load(cls) -> Self:
        """Read the environment and `.env`.

        Raises:
            SettingsError: a port is none.

        """
        try:
            return cls()
        except ValidationError as error:
            raise refusal(error) from None

    def url(self, port: int) -> str:
        """Return the base URL of the service on `port`."""
        return f"http://127.0.0.1:{port}"


class Tokens:
    """Tokens for any user that the API at `url` takes: of this checkout's secret, or of the one the stack starts with.

    Raises:
        NoAnswer: nothing listens there, or neither secret is the API's.

    """

    def __init__(self, url: str, settings: Settings) -> None:
        for candidate in (settings, settings.model_copy(update={"better_auth_secret": SecretStr(STACK_SECRET)})):
            self._settings = candidate
            if self._are_taken(url):
                return
        raise NoAnswer(f"The API at {url} takes no token made here: set BETTER_AUTH_SECRET to the one it has.")

    def _are_taken(self, url: str) -> bool:
        try:
            return httpx.get(f"{url}/api/tasks?limit=1", headers=self.header("traffic")).status_code in {OK, LIMITED}
        except httpx.TransportError:
            raise NoAnswer(f"Nothing answers at {url}: start it with `make dev` or `make stack`.") from None

    def header(self, user_id: str) -> dict[str, str]:
        """Return the header that speaks for `user_id` during a day."""
        return {"Authorization": f"Bearer {development.token(self._settings, user_id, 24 * 60)}"}


def fill_archive(client: httpx.Client) -> Iterator[int]:
    """Give the archivist what makes SLOW_SEARCH slow, a task at a time, unless it is there already.

    Raises:
        NoAnswer: the API went away.

    """
    try:
        for number in range(len(client.get("/api/tasks?limit=100").json()), ARCHIVED):
            task = {"title": f"Archive {number}", "description": ARCHIVE_TEXT}
            client.post("/api/tasks", json=task).raise_for_status()
            yield number
    except httpx.HTTPError as error:
        raise NoAnswer(f"The archive could not be filled: {error or type(error).__name__}") from None
