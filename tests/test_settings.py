"""Settings: what is read from where, and what is refused in which words."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings, SettingsError
from tests.wrong_settings import CANARY, INVALID_SETTINGS

ROOT = Path(__file__).parents[1]
SECRET = "s" * 32
URL = "postgresql://tasks:pw@db/tasks"
PRODUCTION = {"ENVIRONMENT": "production", "DATABASE_URL": URL, "BETTER_AUTH_SECRET": SECRET}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env`, and an environment without a variable of ours."""
    for name in os.environ:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> "Load":
    return Load(monkeypatch)


class Load:
    """Loads the settings with these variables in the environment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **variables: str) -> Settings:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)
        return Settings.load()

    def refused(self, **variables: str) -> str:
        with pytest.raises(SettingsError) as refusal:
            self(**variables)
        return str(refusal.value)


@pytest.mark.parametrize(("name", "value"), INVALID_SETTINGS)
def test_a_wrong_variable_is_named_and_its_value_is_not(load: Load, name: str, value: str) -> None:
    """One line that begins with the variable; what might be a secret is not in it."""
    message = load.refused(**{name: value})
    assert message.startswith(f"{name}: ")
    assert "\n" not in message
    assert CANARY not in message
    assert "Value error" not in message


@pytest.mark.parametrize("name", ["FORWARDED_ALLOW_IPS", "TRUST_TRACEPARENT"])
def test_a_network_with_host_bits_is_told_so(load: Load, name: str) -> None:
    """In one line: whether the address or its network is meant, only who wrote it knows."""
    message = load.refused(**{name: "10.0.0.0/8,10.0.0.5/8"})
    assert message.startswith(f"{name}: a network has host bits set: ")
    assert "\n" not in message


def test_the_deadline_has_an_old_name(load: Load) -> None:
    """It works still; the new one wins, and what is wrong with either is told with both."""
    assert load(DATABASE_TIMEOUT_MS="500").request_deadline_ms == 500
    assert load(REQUEST_DEADLINE_MS="600").request_deadline_ms == 600
    message = load.refused(REQUEST_DEADLINE_MS="", DATABASE_TIMEOUT_MS="2s")
    assert message.startswith("REQUEST_DEADLINE_MS: ")
    assert message.endswith(" (its old name is DATABASE_TIMEOUT_MS)")


def test_what_does_not_go_together_is_named_at_once(load: Load) -> None:
    """A line for each, as for the variables themselves."""
    unsafe = {"BETTER_AUTH_SECRET": "change-me-to-at-least-32-random-bytes", "TRUST_BROWSER_TRACEPARENT": "true"}
    message = load.refused(**(PRODUCTION | unsafe), BETTER_AUTH_URL="http://auth.example.com")
    assert [line.split()[0] for line in message.splitlines()] == [
        "TRUST_BROWSER_TRACEPARENT",
        "BETTER_AUTH_URL",
        "BETTER_AUTH_SECRET",
    ]


def test_every_wrong_variable_is_named_at_once(load: Load) -> None:
    """A line for each, so that one attempt is enough."""
    message = load.refused(PORT="http", LOG_LEVEL="loud", DATABASE_URL="nowhere", BETTER_AUTH_SECRET="short")
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "PORT",
        "LOG_LEVEL",
        "DATABASE_URL",
        "BETTER_AUTH_SECRET",
    ]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"BETTER_AUTH_SECRET": "s" * 31}, "BETTER_AUTH_SECRET"),
        ({"BETTER_AUTH_SECRET": "change-me-to-at-least-32-random-bytes"}, "BETTER_AUTH_SECRET"),
        ({"BETTER_AUTH_SECRET": "better-auth-secret-12345678901234567890"}, "BETTER_AUTH_SECRET"),
        ({"BETTER_AUTH_URL": "http://auth.example.com"}, "BETTER_AUTH_URL"),
    ],
)
def test_production_refuses_what_is_unsafe(load: Load, changed: dict[str, str], named: str) -> None:
    """A secret that is short or public, keys over plain HTTP."""
    assert load.refused(**(PRODUCTION | changed)).startswith(named)


def test_what_is_missing_is_missing_for_serving_alone(load: Load) -> None:
    """Settings load without, for a migration needs no secret; each variable has a line for whoever would serve."""
    assert load(ENVIRONMENT="production").missing() == [
        "DATABASE_URL is required in production",
        "BETTER_AUTH_URL or BETTER_AUTH_SECRET is required in production",
    ]


def test_production_takes_what_is_complete(load: Load) -> None:
    """A database and one mode of authentication."""
    settings = load(**PRODUCTION)
    assert settings.environment == "production"
    assert settings.missing() == []
    assert load(**(PRODUCTION | {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": "https://a.test"})).missing() == []


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_database_url_may_be_spelled_as_hosts_spell_it(load: Load, scheme: str) -> None:
    """Each of the three means psycopg2, and everything behind the scheme stays."""
    rest = "user:p%40ss@db.example.com:5433/examples?sslmode=require"
    url = load(DATABASE_URL=f"{scheme}://{rest}").database_url
    assert url is not None
    assert url.get_secret_value() == f"postgresql+psycopg2://{rest}"


def test_lists_are_separated_by_commas(load: Load) -> None:
    """White space around an origin and empty ones do not count."""
    origins = load(CORS_ORIGINS=" https://a.test , http://localhost:3000,").cors_origins
    assert origins == ("https://a.test", "http://localhost:3000")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://app.example.com:80", "http://app.example.com"),
        ("http://app.example.com:443", "http://app.example.com:443"),
        ("https://bücher.example:8443", "https://xn--bcher-kva.example:8443"),
        ("http://[0:0::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_may_be_spelled_as_people_spell_it(load: Load, written: str, sent: str) -> None:
    """It is kept as browsers send it: lower case, no default port, Punycode; they compare byte by byte."""
    assert load(CORS_ORIGINS=written).cors_origins == (sent,)


@pytest.mark.parametrize("origin", ["null", "tauri://localhost", "app://-", "safari-web-extension://5E2F:8080"])
def test_an_origin_that_is_no_web_sites_is_kept_as_it_is(load: Load, origin: str) -> None:
    """Web views and extensions have schemes of their own, whose hosts are nobody's to change."""
    assert load(CORS_ORIGINS=f"https://a.test,{origin}").cors_origins == ("https://a.test", origin)


def test_a_wildcard_of_headers_is_told_why_it_is_refused(load: Load) -> None:
    """It would not do what it seems to: the token's header is not part of it."""
    assert load.refused(CORS_HEADERS="*").startswith("CORS_HEADERS: `*` does not cover Authorization")
    assert load(CORS_HEADERS="X-Team, x-other").cors_headers == ("X-Team", "x-other")


def test_a_browsers_trace_is_trusted_by_its_origin(load: Load) -> None:
    """Without an origin there is no browser to be trusted, and the start says so."""
    assert load.refused(TRUST_BROWSER_TRACEPARENT="true").startswith("TRUST_BROWSER_TRACEPARENT ")
    assert load(CORS_ORIGINS="https://a.test").trust_browser_traceparent is True


def test_metrics_have_no_port_that_users_have(load: Load) -> None:
    """The default of PORT included."""
    assert load.refused(METRICS_PORT="8000").startswith("METRICS_PORT must not be PORT")
    assert load.refused(METRICS_PORT="9464", PORT="9464").startswith("METRICS_PORT must not be PORT")


def test_the_environment_wins_over_the_file(load: Load, folder: Path) -> None:
    """`.env` gives what the environment does not."""
    (folder / ".env").write_text("PORT=8001\nHOST=0.0.0.0\nOTHER=1\n")
    settings = load(PORT="8002")
    assert (settings.port, settings.host) == (8002, "0.0.0.0")  # noqa: S104  a value, nothing listens


def test_production_reads_no_file(load: Load, folder: Path) -> None:
    """A `.env` left in an image changes nothing and breaks nothing, whatever is in it."""
    (folder / ".env").write_bytes(b"PORT=8001\nLOG_LEVEL=\xff\xfe\n")
    assert load(**PRODUCTION).port == 8000


def test_the_file_cannot_say_that_this_is_production(load: Load, folder: Path) -> None:
    """A production that were read from `.env` would read the rest from there as well."""
    (folder / ".env").write_text("\n".join(f"{name}={value}" for name, value in PRODUCTION.items()))
    assert load.refused().startswith("ENVIRONMENT: ")


def test_an_unreadable_file_is_named(load: Load, folder: Path) -> None:
    """A `.env` that is not UTF-8 is a message, not a traceback."""
    (folder / ".env").write_bytes(b"PORT=8001\nLOG_LEVEL=\xff\xfe\n")
    assert load.refused() == ".env cannot be read: UnicodeDecodeError"


def test_no_secret_is_shown(load: Load) -> None:
    """Neither by `repr` and `str`, nor by the error of settings that were made in a program."""
    uri = f"redis://:{CANARY}@host/0"
    settings = load(
        DATABASE_URL=f"postgresql://u:{CANARY}@h/d", BETTER_AUTH_SECRET=CANARY * 4, RATE_LIMIT_STORAGE_URI=uri
    )
    assert CANARY not in repr(settings) + str(settings) + settings.model_dump_json()
    with pytest.raises(ValidationError) as refusal:
        Settings(better_auth_secret=CANARY)
    assert CANARY not in str(refusal.value)


def example() -> dict[str, tuple[str, str]]:
    """The variables of `.env.example`: each with its value and the line above it."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    found = {}
    for above, line in pairwise(lines):
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert name not in found
            found[name] = (value, above)
    return found


def test_the_example_names_every_variable() -> None:
    """Each with a line above it that says what it is."""
    variables = example()
    assert set(variables) == {name.upper() for name in Settings.model_fields}
    assert all(comment.startswith("# ") and len(comment) > 10 for _, comment in variables.values())


def test_the_example_holds_the_defaults(load: Load, folder: Path) -> None:
    """Copied as it is, it changes nothing."""
    defaults = load()
    (folder / ".env").write_text((ROOT / ".env.example").read_text())
    assert load() == defaults
    for name, (value, _) in example().items():
        assert bool(value) == bool(getattr(defaults, name.lower())) or value in {"0", "false"}, name
