import fcntl
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from devtools.postgres import PostgresFailed, postgres
from devtools.postgres.cluster import Cluster, give_to_server, stop
from devtools.postgres.home import fallback_folder, prepare_folders, remove
from tests.devtools.processes import end, find_processes, is_running, keepers, kill, pid_of, query, run_user, url_of
from tests.support import wait_until

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")


def test_data_survives_a_restart_and_only_the_first_start_says_something(fresh: Path) -> None:
    """The first start says that it sets up. The next one is silent and has the data. Both leave no process behind."""
    said: list[str] = []
    with postgres(fresh, say=said.append) as server:
        first = pid_of(server.superuser_url())
        query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    assert not is_running(first)
    assert not server.socket.exists()
    with postgres(fresh, say=said.append) as server:
        assert query(server.url(), "SELECT answer FROM kept") == (42,)
        assert query(server.url(), "SELECT current_setting('fsync')") == ("on",)
    assert len(said) == 1
    assert "Setting up PostgreSQL" in said[0]
    assert not keepers(fresh)


def test_server_stops_when_its_only_user_is_killed(state: Path) -> None:
    """The server stops, too, when SIGKILL gives its user no chance to stop it."""
    with run_user(state) as process:
        server = pid_of(url_of(process))
        process.kill()
        wait_until(lambda: not is_running(server))


def test_users_share_a_server_which_the_last_one_stops(fresh: Path) -> None:
    """Users that start at the same time get one server. It stops with the last user, not with the first."""
    with ExitStack() as stack:
        users = [stack.enter_context(run_user(fresh)) for _ in range(3)]
        urls = {url_of(process) for process in users}
        assert len(urls) == 1
        server = pid_of(urls.pop())
        for process in users[:2]:
            end(process)
            assert process.stdout
            assert process.stdout.read() == ""  # nothing that still runs holds the terminal
            assert is_running(server)
        end(users[2])
        assert not is_running(server)


def test_ctrl_c_of_one_user_leaves_the_server_to_the_others(state: Path) -> None:
    """Ctrl-C in a terminal reaches all processes of its group. The keeper and the server are not in that group."""
    with run_user(state, start_new_session=True) as first, run_user(state) as second:
        url_of(first)
        url = url_of(second)
        os.killpg(first.pid, signal.SIGINT)
        first.wait(10)
        assert query(url, "SELECT 1") == (1,)


@pytest.mark.parametrize("program", ["bin/initdb", "devtools.postgres.keeper"])
def test_killed_first_set_up_is_repeated(fresh: Path, program: str) -> None:
    """If initdb or its keeper is killed, the user gets one line, and the next start succeeds."""
    folder = fallback_folder(fresh) if os.geteuid() == 0 else fresh
    with run_user(fresh) as process:
        wait_until(lambda: find_processes("bin/initdb", str(folder)))
        kill(find_processes(program, str(folder)))
        assert "failed: PostgreSQL did not start" in url_of(process)
    with postgres(fresh, durable=False) as server:
        assert query(server.url(), "SELECT 1") == (1,)


def test_user_killed_during_first_set_up_does_not_block_others(fresh: Path) -> None:
    """The next user waits for the set-up that runs, and gets a server."""
    with run_user(fresh) as process:
        wait_until(lambda: keepers(fresh))
        process.kill()
    with postgres(fresh, durable=False) as server:
        assert query(server.url(), "SELECT 1") == (1,)


def test_killed_server_recovers_at_the_next_start(state: Path) -> None:
    """SIGKILL of PostgreSQL leaves its pid file and no checkpoint. The next start has all that was committed."""
    with postgres(state) as server:
        query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
        os.kill(pid_of(server.superuser_url()), signal.SIGKILL)
    with postgres(state) as server:
        assert query(server.url(), "SELECT answer FROM kept") == (42,)


@on_linux
def test_server_ends_with_its_keeper(state: Path) -> None:
    """A killed keeper cannot stop the server, so the kernel does."""
    with run_user(state) as process:
        server = pid_of(url_of(process))
        kill(keepers(state))
        wait_until(lambda: not is_running(server))


def test_server_without_keeper_is_replaced(state: Path) -> None:
    """The next start stops a server whose keeper was killed, if the kernel has not done so."""
    with postgres(state, durable=False) as server:
        query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
    folder, programs = prepare_folders(state)
    pid_file = folder / "data" / "postmaster.pid"
    with TemporaryDirectory(dir="/tmp") as socket:
        give_to_server(Path(socket))
        with (state / "server.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cluster = Cluster(state, folder, programs, slow_query_ms=100, volatile=True, lock=lock)
            orphan = cluster.start("postgres", "-D", str(cluster.data), "-h", "", "-k", socket)
        try:
            wait_until(lambda: pid_file.exists() and "ready" in pid_file.read_text())
            with postgres(state, durable=False) as server:
                assert orphan.wait(10) == 0
                assert query(server.url(), "SELECT answer FROM kept") == (42,)
        finally:
            stop(orphan)


def test_start_that_fails_names_the_log(fresh: Path) -> None:
    """One line has PostgreSQL's own message and the path of the log."""
    with postgres(fresh, durable=False):
        pass
    data = prepare_folders(fresh)[0] / "data"
    (data / "global" / "pg_control").unlink()
    with pytest.raises(PostgresFailed) as failure, postgres(fresh, durable=False):
        pass
    assert str(fresh / "log") in str(failure.value)
    assert "pg_control" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_state_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """An error of the system is a PostgresFailed, too."""
    (tmp_path / "file").touch()
    with pytest.raises(PostgresFailed, match="cannot be started"), postgres(tmp_path / "file"):
        pass


def test_environment_has_no_influence(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of libpq and Python change nothing, nor does a $TMPDIR that is too long for a socket."""
    temporary = tmp_path / ("x" * 100)
    temporary.mkdir()
    for name, value in {"TMPDIR": str(temporary), "PGPORT": "1", "PGDATA": "/nowhere", "PYTHONSAFEPATH": "1"}.items():
        monkeypatch.setenv(name, value)
    with run_user(state) as process:
        assert query(url_of(process), "SELECT 1") == (1,)


def test_libpq_goes_nowhere_else(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make reset` would drop the database of another server, where one of these variables names it."""
    for name in ("PGHOSTADDR", "PGSERVICE"):
        monkeypatch.setenv(name, "127.0.0.1")
    with postgres(fresh, durable=False) as server:
        assert query(server.url(), "SELECT inet_server_addr() IS NULL") == (True,)


def test_remove_refuses_while_somebody_uses_the_cluster(fresh: Path) -> None:
    """`make clean` does not delete the data of a running `make dev`."""
    with postgres(fresh, durable=False) as server:
        with pytest.raises(BlockingIOError, match="in use"):
            remove(fresh)
        assert query(server.url(), "SELECT 1") == (1,)
    remove(fresh)
    assert not fresh.exists()
