"""`make dev`: what it does when a file is saved, when it is stopped, and when it is killed."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from socket import create_server
from time import monotonic

import pytest

from tests.devtools.dev import Project
from tests.devtools.processes import query
from tests.support import wait_until

BANNER, AGAIN, WAITS = "make psql", "served again after", "The next save in app/ starts it again."
KEEPS = f"{WAITS} Until then, the last code that worked is served."
HEALTH = "app/health.py"
SLEEPY = """
@router.get("/sleepy")
def sleep(seconds: float) -> str:
    import pathlib, time
    pathlib.Path("asleep").touch()
    time.sleep(seconds)
    return "awake"
"""
KEEPSAKE = """
from sqlmodel import Field, SQLModel


class Keepsake(SQLModel, table=True):
    id: int = Field(primary_key=True)
"""
NEXT = """
from alembic import op

revision, down_revision = "9999_next", {head!r}


def upgrade() -> None:
    op.execute("{statement}")


def downgrade() -> None:
    op.execute("SELECT 1")
"""
SLOW = """
import logging, pathlib, time

def wait() -> None:
    logging.getLogger("backfill").info("7 rows changed")
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
"""
SLEEPS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(14)'"
LEFT = "SELECT to_regclass('half_done') IS NULL, (SELECT max(version_num) FROM alembic_version)"


def head_of(project: Project) -> str:
    return max(file.stem for file in project.versions.glob("[0-9]*.py"))


def test_a_save_is_served(project: Project) -> None:
    """By a new process, as soon as the old one has ended. The lines stay coloured, and the banner is printed once."""
    with project.dev() as dev:
        dev.wait_for(BANNER)
        assert (dev.get("/health/live").status_code, dev.get("/_dev/").status_code) == (200, 200)
        parent, child = dev.processes()
        project.replace(HEALTH, '"/live"', '"/alive"')
        dev.wait_for(AGAIN)
        assert (dev.get("/health/live").status_code, dev.get("/health/alive").status_code) == (404, 200)
        assert dev.processes()[0] == parent
        assert not child.is_running()
        assert f"{HEALTH} changed: starting again\n" in dev.shown
        assert (dev.shown.count(BANNER), "\x1b[0m" in dev.shown) == (1, True)
        assert dev.end() == 0


@pytest.mark.slow
def test_the_terminal_leads_to_the_page(project: Project) -> None:
    """`o` and Enter opens it, as the banner says, also after a save. A request's line has the address of its trace."""
    browser, opened = project.folder / "browser", project.folder / "opened"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    project.environment["BROWSER"] = str(browser)
    with project.dev() as dev:
        page = f"http://127.0.0.1:{dev.port}/_dev/"
        dev.wait_for(f"page   {page}   (o and Enter opens it)")
        dev.write("o\n")
        wait_until(lambda: opened.exists() and opened.read_text() == f"{page}\n")
        project.replace(HEALTH, '"/live"', '"/alive"')
        dev.wait_for(AGAIN)
        dev.write("what?\no\n")
        wait_until(lambda: opened.read_text() == f"{page}\n" * 2)
        trace = dev.get("/api/tasks").headers["X-Trace-Id"]
        dev.wait_for(f"{page}trace/{trace}")
        assert dev.get("/_dev/trace/" + trace).status_code == 200
        assert dev.get("/_dev/data/trace/" + trace).json()["spans"]


@pytest.mark.slow
def test_what_is_wrong_with_the_code_is_shown_and_the_next_save_mends_it(project: Project) -> None:
    """The message says where it is, and no stack is shown. It may be wrong from the start."""
    good = (project.folder / HEALTH).read_text()
    main = (project.folder / "app/main.py").read_text()
    project.save(HEALTH, f"import\n{good}")
    with project.dev() as dev:
        dev.wait_for(WAITS)
        assert f"{HEALTH}, line 1: SyntaxError: " in dev.shown
        project.save(HEALTH, good)
        dev.wait_for(BANNER)
        for number, (name, wrong, right, told) in enumerate(
            [
                (HEALTH, f"import no_such\n{good}", good, f"{HEALTH}, line 1: ModuleNotFoundError: No module named"),
                (HEALTH, f"{good}\nrouter.get('/x', response_model=object())(len)\n", good, f"{HEALTH}, line "),
                ("app/main.py", main.replace("entities)", "entities, 1)"), main, "app/main.py, line "),
                (
                    "app/main.py",
                    main.replace("(health.router)", "(health.router, prefix='/api')"),
                    main,
                    "/api/health/",
                ),
            ],
            2,
        ):
            project.save(name, wrong)
            dev.wait_for(WAITS, number)
            assert told in dev.shown.rpartition("starting again")[2]
            project.save(name, right)
            dev.wait_for(AGAIN, number - 1)
        assert "Traceback" not in dev.shown
        assert dev.get().status_code == 200


@pytest.mark.slow
def test_a_migration_is_applied_when_it_is_saved(project: Project) -> None:
    """One that fails is shown with its line, and mended by the next save. One that is edited later is told of."""
    name, head = "app/migrations/versions/9999_next.py", head_of(project)
    with project.dev() as dev:
        dev.wait_for(BANNER)
        project.save(name, NEXT.format(head=head, statement="SELECT 1 / 0"))
        dev.wait_for(WAITS)
        assert "The schema cannot be changed: division by zero (9999_next.py, line 8)" in dev.shown
        project.save(name, "down_revision = 1")
        dev.wait_for(WAITS, 2)
        assert "The migrations are broken: " in dev.shown
        project.save(name, NEXT.format(head=head, statement="SELECT 1"))
        dev.wait_for(AGAIN)
        project.replace(name, "def upgrade", "# a comment\ndef upgrade")
        dev.wait_for(AGAIN, 2)
        assert "edited after" not in dev.shown
        project.replace(name, "SELECT 1", "SELECT 2")
        dev.wait_for(AGAIN, 3)
        dev.wait_for(
            f"{name}: edited after it was applied, so the database does not have the edit. `make migrate DOWN=1`"
        )
        for arguments in (("migrate", "--down", "1"), ("migrate",)):
            assert project.run(*arguments).returncode == 0
        project.replace(HEALTH, "import", "import os\nimport")
        dev.wait_for(AGAIN, 4)
        assert dev.shown.count("edited after") == 1


@pytest.mark.slow
def test_the_last_code_that_worked_serves_while_a_migration_runs_and_when_it_has_failed(project: Project) -> None:
    """The migration is named when it begins, and its log is shown. A save mends it."""
    name, text = "app/migrations/versions/9999_next.py", NEXT.format(head=head_of(project), statement="SELECT 1 / 0")
    with project.dev() as dev:
        dev.wait_for(BANNER)
        _, child = dev.processes()
        project.save(name, text.replace("    op.execute", "    wait()\n    op.execute", 1) + SLOW)
        dev.wait_for("7 rows changed")
        assert "applying 9999_next ...\n" in dev.shown
        assert dev.get("/health/ready").status_code == 200
        (project.folder / "go").touch()
        dev.wait_for(KEEPS)
        assert "The schema cannot be changed: division by zero (9999_next.py, line 9)" in dev.shown
        assert dev.get("/health/ready").status_code == 200
        assert dev.processes()[1:] == [child]
        project.save(name, text.replace("1 / 0", "1"))
        dev.wait_for(AGAIN)
        assert dev.get("/health/ready").status_code == 200
        assert not child.is_running()


@pytest.mark.slow
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("how", ["terminal", "parent"])
def test_a_signal_ends_a_migration(project: Project, how: str, *, saved: bool) -> None:
    """At once, though the database works on a statement. Nothing of the migration is there; no process is left."""
    name, head = "app/migrations/versions/9999_next.py", head_of(project)
    assert project.run("migrate").returncode == 0
    text = NEXT.format(head=head, statement="CREATE TABLE half_done (); SELECT pg_sleep(14)")
    if not saved:
        project.save(name, text)
    with project.dev() as dev:
        if saved:
            dev.wait_for(BANNER)
            project.save(name, text)
        dev.wait_for("applying 9999_next ...")
        wait_until(lambda: query(project.database_url, SLEEPS)[0])
        processes, began = dev.processes(), monotonic()
        if how == "terminal":
            os.killpg(dev.popen.pid, signal.SIGINT)
        else:
            dev.popen.terminate()
        assert dev.popen.wait(20) == 0, dev.shown
        assert monotonic() - began < 5
        assert not any(process.is_running() for process in processes)
        dev.close()
        assert not re.search(f"Traceback|{WAITS}", dev.shown), dev.shown
    wait_until(lambda: query(project.database_url, SLEEPS)[0] == 0, seconds=4)
    assert query(project.database_url, LEFT) == (True, head)


@pytest.mark.slow
def test_a_model_without_a_migration_is_told_of(project: Project) -> None:
    """Before a request meets it."""
    project.save("app/keepsakes.py", KEEPSAKE)
    project.replace("app/main.py", "from app.settings", "import app.keepsakes\nfrom app.settings")
    with project.dev() as dev:
        dev.wait_for('No migration makes keepsake.id: `make migration M="what it does"` writes one.')


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "status"), [(2, 200), (60, 503)])
def test_a_request_ends_before_the_next_process_starts(project: Project, seconds: int, status: int) -> None:
    """It is answered, or with a 503 where it would take too long; then the port is free."""
    project.save(HEALTH, (project.folder / HEALTH).read_text() + SLEEPY)
    with project.dev() as dev, ThreadPoolExecutor() as threads:
        dev.wait_for(BANNER)
        answer = threads.submit(dev.get, f"/health/sleepy?seconds={seconds}")
        wait_until((project.folder / "asleep").exists)
        began = monotonic()
        project.replace(HEALTH, '"awake"', '"rested"')
        assert answer.result().status_code == status
        dev.wait_for(AGAIN)
        assert monotonic() - began < 20
        assert dev.get("/health/sleepy?seconds=0").json() == "rested"


@pytest.mark.slow
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("how", ["terminal", "parent"])
def test_a_signal_ends_every_process(project: Project, how: str, *, saved: bool) -> None:
    """Ctrl-C reaches both processes, SIGTERM only the parent; also while the second process starts."""
    with project.dev() as dev:
        dev.wait_for(BANNER)
        first = dev.processes()
        if saved:
            project.replace(HEALTH, '"/live"', '"/alive"')
            wait_until(lambda: dev.processes()[1:] not in ([], first[1:]))
        processes = dev.processes()
        if how == "terminal":
            os.killpg(dev.popen.pid, signal.SIGINT)
        else:
            dev.popen.terminate()
        assert dev.popen.wait(20) == 0, dev.shown
        assert not any(process.is_running() for process in processes)
        dev.close()
        assert not re.search(f"Traceback|{WAITS}", dev.shown), dev.shown


@pytest.mark.slow
def test_a_killed_parent_keeps_nothing_from_the_next(project: Project) -> None:
    """The child ends as well, at once, so the port is free."""
    with project.dev() as dev:
        dev.wait_for(BANNER)
        _, child = dev.processes()
        assert dev.end(signal.SIGKILL) == -signal.SIGKILL
        wait_until(lambda: not child.is_running(), seconds=2)
        with project.dev(dev.port) as second:
            second.wait_for(BANNER)
            assert second.get().status_code == 200


@pytest.mark.slow
def test_a_process_that_ends_by_itself_is_replaced_by_the_next_save(project: Project) -> None:
    with project.dev() as dev:
        dev.wait_for(BANNER)
        dev.processes()[1].kill()
        dev.wait_for(WAITS)
        project.replace(HEALTH, '"/live"', '"/alive"')
        dev.wait_for(BANNER, 2)
        assert dev.get("/health/alive").status_code == 200


@pytest.mark.slow
def test_what_no_save_can_mend_ends_the_first_start(project: Project) -> None:
    """A port that is taken, a database that is away: exit code 1 and one line, as ever."""
    with create_server(("127.0.0.1", 0)) as other:
        taken = project.run("dev", PORT=str(other.getsockname()[1]))
    assert (taken.returncode, taken.stderr.count("\n")) == (1, 1), taken.stderr
    assert taken.stdout.splitlines() == [f"applying {file.stem} ..." for file in sorted(project.versions.glob("0*.py"))]
    assert re.match(r"PORT: .* Address already in use\.$", taken.stderr)
    away = project.run("dev", DATABASE_URL="postgresql://127.0.0.1:1/tasks")
    assert (away.returncode, away.stdout, away.stderr.count("\n")) == (1, "", 1), away.stderr
    assert away.stderr.startswith("The database does not answer: ")
