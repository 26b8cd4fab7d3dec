"""Files in `app/migrations/versions` that Alembic cannot put in one line: what each command says of them."""

from pathlib import Path

import pytest

from tests.copies import copy_project
from tests.postmaster import Postmaster
from tests.process import run_command

FIRST = "0001_task"
VERSIONS = "app/migrations/versions"


def migration(revision: str, before: str | tuple[str, ...] | None, code: str = "") -> str:
    return f"{code}\nrevision = {revision!r}\ndown_revision = {before!r}\ndef upgrade(): ...\n"


TWO = {"0002_a.py": migration("0002_a", FIRST), "0002_b.py": migration("0002_b", FIRST)}
TWO_HEADS = "Only one migration can be the last: of 0002_a and 0002_b, let one name the other as its `down_revision`."
BROKEN = {
    "two heads": (TWO, [TWO_HEADS]),
    "gone": ({"0002_a.py": migration("0002_a", "0001_gone")}, ["0001_gone", "0002_a", "is not present"]),
    "twice": ({"0002_a.py": migration(FIRST, None)}, [f"Revision {FIRST} is present more than once"]),
    "cycle": (
        {"0002_a.py": migration("0002_a", "0003_b"), "0003_b.py": migration("0003_b", "0002_a")},
        ["Cycle is detected in revisions (0002_a, 0003_b)"],
    ),
    "syntax": ({"0002_a.py": migration("0002_a", FIRST, "import")}, ["SyntaxError: ", "(0002_a.py, line 1)"]),
    "import": (
        {"0002_a.py": migration("0002_a", FIRST, "import no_such_module")},
        ["ModuleNotFoundError: No module named 'no_such_module' (0002_a.py, line 1)"],
    ),
    "several": (
        {
            "0002_a.py": migration("0002_a", FIRST, "import no_such_module"),
            "0003_b.py": migration("0003_b", "0002_a", "import"),
            "0004_c.py": migration("0004_c", "0003_b", "raise LookupError('no such column')"),
        },
        [
            "ModuleNotFoundError: No module named 'no_such_module' (0002_a.py, line 1); SyntaxError: ",
            "(0003_b.py, line 1); LookupError: no such column (0004_c.py, line 1)",
        ],
    ),
    "none": ({}, [f"There is no migration in {VERSIONS}."]),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with the application in it, whose files may be changed."""
    return copy_project(tmp_path)


def put(copy: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (copy / VERSIONS / name).write_text(text)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_migrations_are_told_in_a_line(copy: Path, postmaster: Postmaster, name: str) -> None:
    """By `migrate`, and by `serve` in the same words: exit code 1, and one line that names what to mend."""
    files, told = BROKEN[name]
    if not files:
        (copy / VERSIONS / f"{FIRST}.py").unlink()
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


def test_two_lines_may_meet_again(copy: Path, postmaster: Postmaster) -> None:
    """A migration that comes after both makes them one line, and `migrate` runs."""
    put(copy, TWO | {"0003_ab.py": migration("0003_ab", ("0002_a", "0002_b"))})
    migrated = run_command(["migrate"], postmaster.url(postmaster.new_database()), copy)
    assert (migrated.returncode, migrated.stderr) == (0, "")
