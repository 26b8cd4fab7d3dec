"""Files in `app/migrations/versions` that Alembic cannot put in one line: what each command says of them."""

import json
from pathlib import Path

import pytest

from tests.migrations.team import LAST, VERSIONS
from tests.postmaster import Postmaster
from tests.process import run_command
from tests.support import slow


def migration(revision: str, before: str | tuple[str, ...] | None, code: str = "") -> str:
    return f"{code}\nrevision = {revision!r}\ndown_revision = {before!r}\ndef upgrade(): ...\n"


TWO = {"new_a.py": migration("new_a", LAST), "new_b.py": migration("new_b", LAST)}
TWO_HEADS = (
    "Only one migration can be the last: of new_a.py and new_b.py, let the one that no database has yet name the"
    " other as its `down_revision`."
)
NEVER_APPLIED = (
    "The database is at new_b, but never had new_a.py, which the files put before it. If no database has new_a.py, put"
    " it last: let it name new_b as its `down_revision`, and give the migration that names new_a the `down_revision`"
    " that it had. Otherwise begin with an empty database, as `make reset` does in development.\n"
)
BROKEN = {
    "two heads": (TWO, [TWO_HEADS]),
    "gone": ({"new_a.py": migration("new_a", "gone")}, ["gone", "new_a", "is not present"]),
    "twice": ({"new_a.py": migration(LAST, None)}, [f"Revision {LAST} is present more than once"]),
    "cycle": (
        {"new_a.py": migration("new_a", "new_c"), "new_c.py": migration("new_c", "new_a")},
        ["Cycle is detected in revisions (new_a, new_c)"],
    ),
    "syntax": ({"new_a.py": migration("new_a", LAST, "import")}, ["SyntaxError: ", "(new_a.py, line 1)"]),
    "import": (
        {"new_a.py": migration("new_a", LAST, "import no_such_module")},
        ["ModuleNotFoundError: No module named 'no_such_module' (new_a.py, line 1)"],
    ),
    "several": (
        {
            "new_a.py": migration("new_a", LAST, "import no_such_module"),
            "new_b.py": migration("new_b", "new_a", "import"),
            "new_c.py": migration("new_c", "new_b", "raise LookupError('no such column')"),
        },
        [
            "ModuleNotFoundError: No module named 'no_such_module' (new_a.py, line 1); SyntaxError: ",
            "(new_b.py, line 1); LookupError: no such column (new_c.py, line 1)",
        ],
    ),
    "none": ({}, [f"There is no migration in {VERSIONS}."]),
}


def put(copy: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (copy / VERSIONS / name).write_text(text)


QUICK = ("two heads", "import")


@pytest.mark.parametrize("name", [*QUICK, *(slow(name) for name in BROKEN if name not in QUICK)])
def test_broken_migrations_are_told_in_a_line(copy: Path, postmaster: Postmaster, name: str) -> None:
    """By `migrate`, and by `serve` in the same words: exit code 1, and one line that names what to mend."""
    files, told = BROKEN[name]
    if not files:
        for path in (copy / VERSIONS).glob("*.py"):
            path.unlink()
    put(copy, files)
    url = postmaster.url(postmaster.new_database())
    migrated = run_command(["migrate"], url, copy)
    assert (migrated.returncode, migrated.stdout, migrated.stderr.count("\n")) == (1, "", 1), migrated.stderr
    assert all(part in migrated.stderr for part in told), migrated.stderr
    if name in {"two heads", "syntax"}:
        served = run_command(["serve"], url, copy)
        assert (served.returncode, served.stdout, served.stderr) == (1, "", migrated.stderr)


def test_another_server_is_told_as_well(copy: Path, postmaster: Postmaster) -> None:
    """Where uvicorn calls `create_app`, the last line of what it says is the same one, and the exit code is 1."""
    put(copy, TWO)
    url = postmaster.url(postmaster.new_database())
    served = run_command(["--factory", "app.main:create_app"], url, copy, module="uvicorn")
    assert (served.returncode, served.stdout) == (1, ""), served.stderr
    assert served.stderr.splitlines()[-1] == f"app.migrations.BrokenMigrations: {TWO_HEADS}"


@pytest.mark.slow
def test_a_migration_that_was_never_applied_is_told(copy: Path, postmaster: Postmaster) -> None:
    """The wrong one of two was changed. The line says how to put it right, and then the other one is applied."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    put(copy, {"new_b.py": TWO["new_b.py"]})
    assert run_command(["migrate"], url, copy).returncode == 0
    put(copy, {"new_a.py": TWO["new_a.py"], "new_b.py": migration("new_b", "new_a")})
    for arguments in (["migrate"], ["migrate", "--down", "new_a"]):
        failed = run_command(arguments, url, copy)
        assert (failed.returncode, failed.stderr) == (1, NEVER_APPLIED), failed.stderr
    put(copy, {"new_a.py": migration("new_a", "new_b"), "new_b.py": TWO["new_b.py"]})
    migrated = run_command(["migrate"], url, copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert postmaster.ask("SELECT version_num FROM alembic_version", database) == [("new_a",)]


@pytest.mark.slow
def test_sql_that_was_run_by_hand_is_no_fault(copy: Path, postmaster: Postmaster) -> None:
    """It moves the revision and keeps nothing else. The next migration keeps what led to it."""
    database = postmaster.new_database()
    url = postmaster.url(database)
    put(copy, {"new_a.py": TWO["new_a.py"], "new_b.py": migration("new_b", "new_a")})
    postmaster.ask("UPDATE alembic_version SET version_num = 'new_b'", database)
    put(copy, {"new_c.py": migration("new_c", "new_b")})
    for _ in range(2):
        migrated = run_command(["migrate"], url, copy)
        assert (migrated.returncode, migrated.stderr) == (0, "")
    ((kept,),) = postmaster.ask("SELECT obj_description('alembic_version'::regclass)", database)
    assert set(json.loads(kept)) == {LAST, "new_a", "new_b", "new_c"}


def test_two_lines_may_meet_again(copy: Path, postmaster: Postmaster) -> None:
    """A migration that comes after both makes them one line, and `migrate` runs."""
    put(copy, TWO | {"new_ab.py": migration("new_ab", ("new_a", "new_b"))})
    migrated = run_command(["migrate"], postmaster.url(postmaster.new_database()), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
