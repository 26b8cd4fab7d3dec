"""How the development tools call a running API: its address, tokens for its users, and the archive."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.auth import development
from app.settings import Settings, refusal
from app.settings.types import Port

ACCEPTED = {200, 429}  # 429: the token is good, and its user has used up the limit
STACK_SECRET = "change-me-to-at-least-32-random-bytes"  # noqa: S105  docker-compose.yml starts with it, known to all
ARCHIVIST = "archivist"
ARCHIVED = 80  # with the searches of the same minute, within the default limit
ARCHIVE_TEXT = "a" * 10_000
SLOW_SEARCH = "a" * 199 + "b"  # at each character of the archive, 199 more are compared before it fails


class ApiUnavailable(RuntimeError):
    """The API does not answer, accepts no token made here, or has nothing to ask for. The message is one line."""


class Endpoints(BaseSettings):
    """Where the stack's services are, by the variables that docker-compose.yml reads."""

    model_config = SettingsConfigDict(env_file=Path(".env"), extra="ignore", env_ignore_empty=True)

    api_port: Port = 8000
    grafana_port: Port = 3000
    jaeger_port: Port = 16686
    loki_port: Port = 3100
    prometheus_port: Port = 9090
    grafana_password: SecretStr = SecretStr("admin")

    @classmethod
    def load(cls) -> Self:
        """Read the environment and `.env`."""
        try:
            return cls()
        except ValidationError as error:
            raise refusal(error) from None

    def url(self, port: int) -> str:
        """Return the base URL of the service on `port`."""
        return f"http://127.0.0.1:{port}"


class Tokens:
    """Tokens for any user that the API at `url` accepts, signed with this checkout's secret or with the stack's.

    Raises:
        ApiUnavailable: nothing listens there, or the API has another secret.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        for candidate in (settings, settings.model_copy(update={"better_auth_secret": SecretStr(STACK_SECRET)})):
            self._settings = candidate
            if self._are_accepted(url):
                return
        raise ApiUnavailable(f"The API at {url} takes no token made here: set BETTER_AUTH_SECRET to the one it has.")

    def _are_accepted(self, url: str) -> bool:
        try:
            path = find_collection(url)
            return httpx.get(f"{url}{path}?limit=1", headers=self.header("traffic")).status_code in ACCEPTED
        except httpx.TransportError:
            raise ApiUnavailable(f"Nothing answers at {url}: start it with `make dev` or `make stack`.") from None

    def header(self, user_id: str) -> dict[str, str]:
        """Return the Authorization header of `user_id`, good for a day."""
        return {"Authorization": f"Bearer {development.token(self._settings, user_id, 24 * 60)}"}


def find_collection(url: str) -> str:
    """Return the path of the API's first collection whose rows need only a title, and can be completed.

    Raises:
        ApiUnavailable: it has none, or does not say.
        httpx.TransportError: nothing answers at `url`.
    """
    try:
        document = httpx.get(f"{url}/openapi.json").raise_for_status().json()
    except (httpx.HTTPStatusError, ValueError):
        raise ApiUnavailable(f"What answers at {url} has no OpenAPI document.") from None
    paths, schemas = document["paths"], document["components"]["schemas"]
    for path in paths:
        if f"{path}/{{id}}/complete" in paths and schemas[_body_of(paths[path]["post"])]["required"] == ["title"]:
            return str(path)
    raise ApiUnavailable(f"The API at {url} has no collection of what devtools/traffic/actions.py sends: edit it.")


def _body_of(operation: dict[str, Any]) -> str:
    """Return the name of the schema of an operation's body."""
    reference: str = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return reference.rpartition("/")[2]


def fill_archive(client: httpx.Client, collection: str) -> Iterator[int]:
    """Create the rows on which SLOW_SEARCH is slow, unless they exist. Yield the number of each."""
    try:
        existing = len(client.get(f"{collection}?limit=100").json())
        for number in range(ARCHIVED):
            if number >= existing:
                row = {"title": f"Archive {number}", "description": ARCHIVE_TEXT}
                client.post(collection, json=row).raise_for_status()
            yield number
    except httpx.HTTPError as error:
        raise ApiUnavailable(f"The archive could not be filled: {error or type(error).__name__}") from None
