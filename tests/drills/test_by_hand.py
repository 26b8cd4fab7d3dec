"""`python -m devtools drill`: what it refuses, and that it leaves nothing behind however it ends.

docs/observe.md shows the commands.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.settings import SettingsError
from devtools.drill import run
from devtools.drill.database import LOCKED
from devtools.drill.target import frozen
from devtools.drill.undo import DrillFailed, undone_by
from devtools.postgres import postgres
from tests.conftest import is_removed
from tests.devtools.dev import Project
from tests.devtools.processes import query
from tests.process import ROOT
from tests.support import SECRET, wait_until

IN_TRANSACTION = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
ROWS = f"SELECT count(*) FROM example WHERE user_id = '{LOCKED}'"
# A shell lets its background jobs ignore SIGINT.
FREEZE = """
import signal, sys, time
from devtools.drill.target import frozen

signal.signal(signal.SIGINT, signal.default_int_handler)
with frozen(int(sys.argv[1]))():
    time.sleep(60)
"""


@contextmanager
def sleeping() -> Iterator[psutil.Process]:
    """A process that does nothing."""
    with subprocess.Popen(["sleep", "60"]) as popen:
        try:
            yield psutil.Process(popen.pid)
        finally:
            popen.kill()


def is_frozen(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_what_is_frozen_goes_on_when_the_drill_is_ended(signum: signal.Signals) -> None:
    """Also when it is killed, and can do nothing itself."""
    with sleeping() as process:
        with subprocess.Popen([sys.executable, "-c", FREEZE, str(process.pid)], cwd=ROOT, stderr=-3) as popen:
            wait_until(lambda: is_frozen(process))
            popen.send_signal(signum)
        wait_until(lambda: not is_frozen(process))


def test_what_is_frozen_goes_on_at_the_end() -> None:
    """And after an error in between."""
    with sleeping() as process:
        with pytest.raises(AssertionError), frozen(process.pid)():
            assert not is_frozen(process)
        assert not is_frozen(process)


def test_a_fault_that_cannot_be_taken_back_is_told() -> None:
    """With the command that failed, and what it said."""
    fault = undone_by(["sh", "-c", "echo no way; false"])
    with pytest.raises(DrillFailed, match=r"taken back by: sh -c .*\nno way"), fault:
        pass


@pytest.mark.parametrize(
    ("name", "on", "variables", "says"),
    [
        ("row-locked", "dev", {"ENVIRONMENT": "production"}, "ENVIRONMENT is production: a drill breaks things."),
        ("row-locked", "dev", {"DATABASE_URL": "postgresql://db.example.com/tasks"}, "DATABASE_URL is set: a drill"),
        ("nothing", "dev", {}, "There is no drill nothing: `python -m devtools drill list` names them."),
        ("code-fails", "dev", {}, "code-fails cannot be made on dev, but on own."),
        ("code-fails", "cloud", {}, "--on: must be one of dev, stack, own."),
    ],
)
def test_it_refuses(
    name: str, on: str, variables: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A production, a database that is not its own, a name that is none, a place where it cannot be made."""
    monkeypatch.setattr(run, "HOME", tmp_path)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=re.escape(says)):
        run.run(name, on, 1, print)


def test_a_second_drill_names_the_first() -> None:
    """One runs at a time."""
    (ROOT / ".dev").mkdir(exist_ok=True)
    with (ROOT / ".dev" / "drill.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("slow-search\n")
        lock.flush()
        command = [sys.executable, "-m", "devtools", "drill", "row-locked"]
        env = {"PATH": os.environ["PATH"], "BETTER_AUTH_SECRET": SECRET}
        ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, "The drill slow-search runs. One at a time: end it with Ctrl-C.\n")


@pytest.mark.slow
def test_a_drill_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """On a server of its own; the next drill finds the place as it was."""
    project = Project(tmp_path / "project")
    command = [sys.executable, "-m", "devtools", "drill", "row-locked", "--on", "own"]
    try:
        with (
            subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=subprocess.PIPE) as popen,
            postgres(project.folder / ".dev/drill") as server,
        ):
            assert popen.stdout
            assert any(b"It is made" in line for line in popen.stdout)
            (api,) = [child for child in psutil.Process(popen.pid).children() if "devtools.drill" in child.cmdline()]
            assert query(server.superuser_url("tasks"), IN_TRANSACTION)[0] == 1
            popen.kill()
            popen.wait()
            wait_until(lambda: not api.is_running())
            wait_until(lambda: query(server.superuser_url("tasks"), IN_TRANSACTION)[0] == 0)
            wait_until(lambda: query(server.superuser_url("tasks"), ROWS)[0] == 0)
    finally:
        wait_until(lambda: is_removed(project.folder / ".dev/drill"))
