"""The command line: what each command promises whoever types it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket

import httpx
import jwt
import pytest
import typer

from app.auth import development
from app.auth.claims import claim_names
from app.command_line import readable_errors
from app.serving import verify_database
from app.settings import Settings, SettingsError
from devtools.postgres import Server
from tests.copies import copy_project
from tests.process import environment
from tests.support import SECRET, slow

ROOT = Path(__file__).parents[1]
MODULES = dict.fromkeys(("dev", "seed", "traffic", "smoke"), "devtools")
CANARY = "canary-7f3a"


def command(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line with these variables alone, in `folder`."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
    program = [sys.executable, "-m", MODULES.get(arguments[0], "app"), *arguments]
    return subprocess.run(program, check=False, capture_output=True, text=True, cwd=folder, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PORT": "http", "LOG_LEVEL": "loud"}, ["PORT: ", "LOG_LEVEL: "]),
        (
            {"DATABASE_URL": f"mysql://u:{CANARY}@h/d", "BETTER_AUTH_SECRET": CANARY},
            ["DATABASE_URL: ", "BETTER_AUTH_S"],
        ),
        ({"ENVIRONMENT": "production"}, ["DATABASE_URL is required", "BETTER_AUTH_URL or BETTER_AUTH_SECRET is"]),
        ({"ENVIRONMENT": "production", "BETTER_AUTH_SECRET": SECRET}, ["DATABASE_URL is required in production"]),
        (
            {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://h/d"},
            ["BETTER_AUTH_URL or BETTER_AUTH_SECRET is required in production"],
        ),
        ({}, ["DATABASE_URL is required", "BETTER_AUTH_URL or BETTER_AUTH_SECRET is"]),
    ],
)
def test_serve_says_what_is_wrong(tmp_path: Path, variables: dict[str, str], named: list[str]) -> None:
    """Exit code 2, a line for each variable on standard error, no traceback, no value."""
    run = command(tmp_path, "serve", **variables)
    lines = run.stderr.splitlines()
    assert (run.returncode, run.stdout, len(lines)) == (2, "", len(named)), run.stderr
    assert all(line.startswith(name) for line, name in zip(lines, named, strict=True))
    assert CANARY not in run.stderr


WITH_SOCKET = """
from app import health
from app.__main__ import cli

health.router.add_api_websocket_route("/ws", lambda _: None)
cli(["serve"])
"""


def test_serve_names_a_route_that_is_not_served(database_url: str) -> None:
    """In one line, and exit code 1: nothing else would ever say that it does not answer."""
    program, env = [sys.executable, "-c", WITH_SOCKET], environment(database_url)
    run = subprocess.run(program, check=False, capture_output=True, text=True, cwd=ROOT, env=env, timeout=60)
    line = "/health/ws is a WebSocket route, which is not served: leave it to another application.\n"
    assert (run.returncode, run.stdout, run.stderr) == (1, "", line)


def test_token_prints_one_that_works(tmp_path: Path, stranger: httpx.Client) -> None:
    """One line: a token for the user, good for as long as asked, that the application takes."""
    run = command(tmp_path, "token", "alice", "--minutes", "5", BETTER_AUTH_SECRET=SECRET)
    assert (run.returncode, run.stderr) == (0, "")
    token = run.stdout.removesuffix("\n")
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert (claims["sub"], claims["exp"] - claims["iat"], "role" in claims) == ("alice", 300, False)
    assert stranger.get("/api/examples", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_token_has_the_claims_that_are_asked_for(tmp_path: Path) -> None:
    """Any number of them; a value that is JSON is no text."""
    chosen = ("--claim", 'role=["user", "admin"]', "--claim", "org_id=acme")
    run = command(tmp_path, "token", "root", *chosen, BETTER_AUTH_SECRET=SECRET)
    claims = jwt.decode(run.stdout.strip(), SECRET, ["HS256"])
    assert (claims["sub"], claims["role"], claims["org_id"]) == ("root", ["user", "admin"], "acme")


NOT_READ = f"--claim may name {', '.join(claim_names())}: "


@pytest.mark.parametrize(
    ("claims", "line"),
    [
        (["role"], "--claim is NAME=VALUE, "),
        ([""], "--claim is NAME=VALUE, "),
        (["role=admin", "role=user"], "--claim is NAME=VALUE, once for each name, "),
        (["=admin"], NOT_READ),
        (["sub=bob"], NOT_READ),
        (["exp=9999999999"], NOT_READ),
        ([f"{CANARY}=admin"], NOT_READ),
        (["role=5"], "--claim: the claim role is not as Claims has it (frozen_set_type)."),
        (['role=["a", 5]'], "--claim: the claim role is not as Claims has it (string_type)."),
        (["org_id=5"], "--claim: the claim org_id is not as Claims has it (string_type)."),
        ([f"role={'x' * 8192}"], "--claim: the claim role is too large."),
        ([f"role={'[' * 5000}{']' * 5000}"], "--claim: the claim role is too large."),
    ],
)
def test_token_refuses_a_claim(claims: list[str], line: str) -> None:
    """One that is no claim, that the application does not read, that is somebody else's to set, or of a wrong type."""
    with pytest.raises(SettingsError) as refused:
        development.token(Settings(better_auth_secret=SECRET), "alice", 5, claims)
    assert str(refused.value).startswith(line)
    assert CANARY not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_token_says_in_a_line_which_claim_is_wrong(tmp_path: Path) -> None:
    """Exit code 2, and no token."""
    run = command(tmp_path, "token", "alice", "--claim", f"org_id={CANARY}@", BETTER_AUTH_SECRET=SECRET)
    line = "--claim: the claim org_id is not as Claims has it (string_pattern_mismatch).\n"
    assert (run.returncode, run.stdout, run.stderr) == (2, "", line)


@pytest.mark.parametrize("user", ["a@example.com", slow("alice\n")])
def test_token_knows_who_can_be_a_user(tmp_path: Path, user: str) -> None:
    """An id that the application would refuse gets no token."""
    run = command(tmp_path, "token", user, BETTER_AUTH_SECRET=SECRET)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr
    assert run.stderr.startswith("A user's id is 1 to 64")


def test_token_is_no_command_for_production(tmp_path: Path) -> None:
    """Where real users are, nobody is handed a token."""
    variables = {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://h/d", "BETTER_AUTH_SECRET": SECRET}
    run = command(tmp_path, "token", "alice", **variables)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr
    assert "production" in run.stderr


NOWHERE = {"DATABASE_URL": "postgresql://127.0.0.1:1/d", "BETTER_AUTH_SECRET": SECRET}
SPANS = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}


@pytest.mark.parametrize(
    ("arguments", "variables", "named"),
    [
        (["openapi"], {"PORT": "http"}, "PORT: "),
        (["openapi"], SPANS, "An OTEL_* variable is wrong: OTEL_SPAN"),
        (["openapi", "no/folder/openapi.json"], {}, "no/folder/openapi.json cannot be written: No such file"),
        slow(["openapi", "/"], {}, "/ cannot be written: Is a directory"),
        (["migrate", "base"], NOWHERE, "`base` is the empty schema"),
        slow(["migrate"], NOWHERE | SPANS, "An OTEL_* variable is wrong: OTEL_SPAN"),
        slow(["seed", "alice"], NOWHERE | SPANS, "An OTEL_* variable is wrong: OTEL_SPAN"),
        slow(["dev"], NOWHERE | SPANS, "An OTEL_* variable is wrong: OTEL_SPAN"),
        (["traffic"], {"API_PORT": "http"}, "API_PORT: "),
        slow(["traffic"], {"JAEGER_PORT": "99999"}, "JAEGER_PORT: "),
        slow(["smoke"], {"GRAFANA_PORT": "0"}, "GRAFANA_PORT: "),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], named: str
) -> None:
    """Whatever the command: exit code 2, one line that begins with what to mend, nothing on standard output."""
    run = command(tmp_path, *arguments, **variables)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr
    assert run.stderr.startswith(named)


def test_a_secret_that_cannot_be_kept_is_told_in_a_line(tmp_path: Path) -> None:
    """Exit code 2, the file, and the variable that does without it."""
    copy_project(tmp_path)
    (tmp_path / ".dev").touch()
    run = command(tmp_path, "token", "alice", PYTHONPATH=str(tmp_path))
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr
    assert run.stderr.startswith(f"{tmp_path}/.dev/secret cannot be used (")
    assert "BETTER_AUTH_SECRET" in run.stderr


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1", "PORT: 127.0.0.1:{port} cannot be listened on: Address already in use."),
        slow("192.0.2.1", "HOST: 192.0.2.1:{port} cannot be listened on: Cannot assign requested address."),
        ("no-such-host.invalid", "HOST: no-such-host.invalid does not resolve to an address."),
        slow(".", "HOST: . does not resolve to an address."),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_told_in_a_line(tmp_path: Path, host: str, named: str) -> None:
    """Exit code 1 and one line that begins with the variable to change."""
    with socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run = command(tmp_path, "serve", **NOWHERE, HOST=host, PORT=str(port))
    assert (run.returncode, run.stdout, run.stderr) == (1, "", named.format(port=port) + "\n")


def test_migrate_says_what_it_lacks(tmp_path: Path) -> None:
    """A database, by either variable, and nothing else: exit code 2 and one line."""
    run = command(tmp_path, "migrate", ENVIRONMENT="production")
    wanted = "DATABASE_URL or DATABASE_MIGRATION_URL is required to migrate.\n"
    assert (run.returncode, run.stdout, run.stderr) == (2, "", wanted)


def test_one_url_is_enough_to_migrate(tmp_path: Path, cluster: Server, admin: Callable[[str], None]) -> None:
    """DATABASE_MIGRATION_URL alone: then its login is taken for the one that serves."""
    admin("CREATE DATABASE migrated_alone OWNER tasks")
    run = command(tmp_path, "migrate", DATABASE_MIGRATION_URL=cluster.url("migrated_alone"))
    assert run.returncode == 0, run.stderr


def test_serve_wants_a_migrated_database(tmp_path: Path, cluster: Server, admin: Callable[[str], None]) -> None:
    """Exit code 1 and one line that names the command to run."""
    admin("CREATE DATABASE unmigrated OWNER tasks")
    run = command(tmp_path, "serve", DATABASE_URL=cluster.url("unmigrated"), BETTER_AUTH_SECRET=SECRET)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1), run.stderr
    assert "python -m app migrate" in run.stderr


def test_a_database_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    """Exit code 1, the variable, the address and what the driver says, without the password."""
    url = f"postgresql://user:{CANARY}@127.0.0.1:1/tasks"
    run = command(tmp_path, "serve", DATABASE_URL=url, BETTER_AUTH_SECRET=SECRET)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (1, "", 1), run.stderr
    assert run.stderr.startswith("DATABASE_URL: 127.0.0.1:1 cannot be used: ")
    assert "Connection refused" in run.stderr
    assert CANARY not in run.stderr


def test_migrate_in_production_reads_no_env_file(tmp_path: Path) -> None:
    """Exit code 2 and a line for what is missing, though a `.env` happens to lie there; no secret is asked for."""
    (tmp_path / ".env").write_text(f"DATABASE_URL=postgresql://h/d\nBETTER_AUTH_SECRET={SECRET}\n")
    run = command(tmp_path, "migrate", ENVIRONMENT="production")
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    assert [line.partition(" is ")[0] for line in run.stderr.splitlines()] == ["DATABASE_URL or DATABASE_MIGRATION_URL"]


def test_migrate_brings_a_productions_schema_up_to_date(
    tmp_path: Path, cluster: Server, admin: Callable[[str], None]
) -> None:
    """Exit code 0 and no word, twice over; then the database can be served."""
    admin("CREATE DATABASE production OWNER tasks")
    variables = {"DATABASE_URL": cluster.url("production"), "ENVIRONMENT": "production"}
    for _ in range(2):
        run = command(tmp_path, "migrate", **variables)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    verify_database(Settings(database_url=variables["DATABASE_URL"], better_auth_secret=SECRET))


def test_an_exit_code_is_not_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that has said what is wrong ends with its code, and with no line more."""
    with pytest.raises(typer.Exit) as ended, readable_errors():
        raise typer.Exit(3)
    assert (ended.value.exit_code, capsys.readouterr().err) == (3, "")
