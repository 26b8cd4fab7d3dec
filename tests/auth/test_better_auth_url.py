"""Which BETTER_AUTH_URL is taken, and what is said of one that is not."""

import pytest

from app.auth import development
from app.settings import Settings, SettingsError
from tests.support import SECRET

PRODUCTION = {"ENVIRONMENT": "production", "DATABASE_URL": "postgres://tasks@db.example/tasks"}


def load(monkeypatch: pytest.MonkeyPatch, **environ: str) -> Settings:
    """The settings of a process with these variables and no others of ours."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return Settings.load()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://auth.example.com", "https://auth.example.com"),
        ("https://Auth.Example.com:443/", "https://auth.example.com"),
        ("http://127.0.0.1:3000/", "http://127.0.0.1:3000"),
        ("https://example.com/sign-in/", "https://example.com/sign-in"),
        ("https://example.com/api/authors", "https://example.com/api/authors"),
    ],
)
def test_a_url_is_brought_to_the_form_of_the_issuer(monkeypatch: pytest.MonkeyPatch, given: str, taken: str) -> None:
    """A token's `iss` has no last slash, no default port and a host in lower case; the same URL is the same issuer."""
    assert load(monkeypatch, BETTER_AUTH_URL=given).better_auth_url == taken


@pytest.mark.parametrize(
    "url",
    [
        "auth.example.com",
        "ftp://auth.example.com",
        "https://",
        "https://user:hunter2@auth.example.com",
        "https://auth.example.com?tenant=hunter2",
        "https://auth.example.com/#hunter2",
    ],
)
def test_a_url_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """One line that names the variable and does not repeat its value."""
    with pytest.raises(SettingsError, match=r"^BETTER_AUTH_URL: must [^\n]+$") as refusal:
        load(monkeypatch, BETTER_AUTH_URL=url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("path", ["/api/auth", "/api/auth/", "/api/auth/jwks", "/sign-in/api/auth/jwks/"])
def test_a_url_that_holds_the_path_of_the_keys_is_told_so(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """The URL is the issuer as well, which ends before that path; the message says which variable has the path."""
    with pytest.raises(SettingsError, match=r"^BETTER_AUTH_URL: leave /api/auth off: BETTER_AUTH_JWKS_PATH adds it"):
        load(monkeypatch, BETTER_AUTH_URL=f"https://auth.example.com{path}")


@pytest.mark.parametrize(
    "url", ["https://auth.example.com", "http://auth:3000", "http://localhost:3000", "http://[::1]"]
)
def test_production_takes_keys_that_nobody_can_swap(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """By https, or from this machine or a name of the deployment's own network; then no secret is needed."""
    assert load(monkeypatch, BETTER_AUTH_URL=url, **PRODUCTION).better_auth_url == url


@pytest.mark.parametrize("url", ["http://auth.example.com", "http://203.0.113.7", "http://127.example.com"])
def test_production_refuses_keys_that_somebody_could_swap(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Plain http across a network would let whoever sits on it sign for any user."""
    with pytest.raises(SettingsError, match="BETTER_AUTH_URL"):
        load(monkeypatch, BETTER_AUTH_URL=url, **PRODUCTION)


def test_development_signs_no_token_for_another_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token command says where tokens come from instead of printing one that is refused."""
    settings = load(monkeypatch, BETTER_AUTH_URL="http://localhost:3000", BETTER_AUTH_SECRET=SECRET)
    with pytest.raises(SettingsError, match="GET http://localhost:3000/api/auth/token"):
        development.token(settings, "alice", 5)
