"""The section "Find a slow query" of docs/observe.md, as it is pasted there."""

import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.docs.pages import blocks
from tests.process import Process, run_command
from tests.support import run_sql, slow
from tests.telemetry.support import stop

Run = Callable[..., AbstractContextManager[Process]]

FIRST, SECOND = blocks("docs/observe.md", __file__)
SEED = shlex.split(FIRST.splitlines()[0])[4:]  # behind `python -m devtools seed`
SEARCH, NARROWER = (re.findall(r"http://127\.0\.0\.1:8000([^']+)'", block)[0] for block in (FIRST, SECOND))


@pytest.fixture
def seed(database_url: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command of the walk-through."""

    def run_seed(*arguments: str, environment: str = "development") -> subprocess.CompletedProcess[str]:
        return run_command(
            ["seed", *arguments, "--table", "example"], database_url, module="devtools", environment=environment
        )

    return run_seed


def test_the_cause_is_read_off_the_tree_and_so_is_the_fix(
    run: Run, seed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """After the seed a search prints its sequential scan, and the narrower search its index."""
    assert seed(*SEED).returncode == 0
    with run(LOG_FORMAT="console", OTEL_TRACES_EXPORTER="none") as process:
        with process.client() as alice:
            assert alice.get(SEARCH).status_code == 200
            alice.get(NARROWER)
        stop(process)
        output = process.output()
    before, after = output.split("GET /api/examples 200")[1:]
    assert "Seq Scan on example" in before
    assert re.search(r"199,\d{3} thrown away", before)
    assert "Seq Scan" not in after


@pytest.mark.slow
def test_the_seed_adds_rows_of_one_user(run: Run, seed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """So many rows of the named user, and of nobody else; what was done is told, through a pipe as well."""
    done = seed("alice", "--rows", "150")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "alice has 150 more rows in example.")
    with run() as process, process.client("alice") as alice, process.client("bob") as bob:
        assert len(alice.get("/api/examples?limit=100").json()) == 100
        assert len(alice.get("/api/examples?limit=100&completed=false").json()) == 3
        assert bob.get("/api/examples").json() == []


@pytest.mark.parametrize(("user", "environment"), [slow("not a user", "development"), ("alice", "production")])
def test_the_seed_refuses_what_is_no_development(
    seed: Callable[..., subprocess.CompletedProcess[str]], user: str, environment: str
) -> None:
    """Production, and a user that cannot be, are refused in one line."""
    done = seed(user, environment=environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


@pytest.mark.slow
def test_rows_that_are_not_taken_are_told_in_a_line(
    seed: Callable[..., subprocess.CompletedProcess[str]], database_url: str
) -> None:
    """Exit code 1 and what the database has against them."""
    run_sql(database_url, "ALTER TABLE example ADD CONSTRAINT few CHECK (title <> 'Row 9')")
    done = seed("alice", "--rows", "10")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert done.stderr.startswith("The rows cannot be stored: ")
    assert '"few"' in done.stderr
