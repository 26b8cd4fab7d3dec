import fcntl
import hashlib
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest

from devtools.bootstrap import LOCK, SetUpError, install, is_current, venv_python
from tests.devtools.processes import ROOT
from tests.support import wait_until

VERSION = "Metadata-Version: 2.1\nName: tiny\nVersion: {}\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which pip looks for packages, by its own environment variables: three versions of one package."""
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1.0", "2.0", "3.0"):
        with ZipFile(folder / f"tiny-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("tiny.py", f"version = '{version}'\n")
            wheel.writestr(f"tiny-{version}.dist-info/METADATA", VERSION.format(version))
            wheel.writestr(f"tiny-{version}.dist-info/WHEEL", WHEEL)
            wheel.writestr(f"tiny-{version}.dist-info/RECORD", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", folder.as_uri())
        yield folder


def pin(project: Path, wheel: Path, digest: str = "") -> None:
    """Write a lock file that names one wheel."""
    digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
    version = wheel.name.split("-")[1]
    (project / LOCK).write_text(f"tiny=={version} --hash=sha256:{digest}\n")


@contextmanager
def restore_after(path: Path) -> Iterator[None]:
    """Restore the file's content when the block ends: each test finds a lock file that fits `.venv`."""
    content = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(content)


def new_project(folder: Path, packages: Path) -> Path:
    """A checkout that has no `.venv` yet."""
    project = folder / """it's a "project\""""
    (project / "devtools").mkdir(parents=True)
    (project / "devtools" / "bootstrap.py").write_bytes((ROOT / "devtools" / "bootstrap.py").read_bytes())
    pin(project, packages / "tiny-1.0-py3-none-any.whl")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Path:
    """A checkout with a complete `.venv`."""
    project = new_project(tmp_path_factory.mktemp("checkout"), packages)
    code, said = finish(start(project))
    assert code == 0, said
    assert said.startswith("setting up .venv from requirements-dev.lock")
    assert said.count("\n") == 1
    assert tiny(project) == "1.0"
    return project


def start(project: Path, *before: str, **environment: str) -> subprocess.Popen[str]:
    bootstrap = [sys.executable, *before, str(project / "devtools" / "bootstrap.py")]
    out = subprocess.PIPE
    return subprocess.Popen(bootstrap, text=True, env=environment or None, stdout=out, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    with process:
        said, _ = process.communicate(timeout=60)
    return process.returncode, said


def tiny(project: Path) -> str:
    """Return the version of the package in the project's `.venv`."""
    command = [venv_python(project), "-I", "-c", "import tiny; print(tiny.version)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_current_environment_is_left_alone_in_silence(project: Path) -> None:
    """A second `make` does nothing, prints nothing, and does not wait for the lock."""
    with (project / ".venv.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert finish(start(project)) == (0, "")


@pytest.mark.slow
def test_changed_lock_file_makes_a_new_environment(project: Path, packages: Path) -> None:
    """The packages of the new lock file are installed, and the old environment is gone."""
    (project / ".venv" / "leftover").touch()
    pin(project, packages / "tiny-2.0-py3-none-any.whl")
    assert finish(start(project))[0] == 0
    assert tiny(project) == "2.0"
    assert not (project / ".venv" / "leftover").exists()


@contextmanager
def redirect(link: Path, target: str) -> Iterator[None]:
    """Let `link` lead to `target` until the block ends."""
    before = link.readlink()
    link.unlink()
    link.symlink_to(target)
    try:
        yield
    finally:
        link.unlink()
        link.symlink_to(before)


@pytest.mark.parametrize("target", ["/nowhere/python", "/bin/false"])
def test_environment_whose_python_is_broken_is_not_current(project: Path, target: str) -> None:
    """Its Python was removed, or does not run any more."""
    with redirect(Path(venv_python(project)), target):
        assert not is_current(project)
    assert is_current(project)


def test_moved_environment_is_not_current(project: Path, tmp_path: Path) -> None:
    """Its scripts would run the programs at the old place."""
    moved = tmp_path / "moved"
    project.rename(moved)
    try:
        assert not is_current(moved)
    finally:
        moved.rename(project)


@pytest.mark.slow
def test_kill_and_two_at_once_end_in_one_good_environment(tmp_path: Path, packages: Path) -> None:
    """Two processes wait for what a killed `make` has started. Then one does the work again, and the other waits."""
    project = new_project(tmp_path, packages)
    with start(project) as killed:
        wait_until(lambda: Path(venv_python(project)).exists())
        killed.kill()
    both = [start(project), start(project)]
    ended = [finish(process) for process in both]
    assert [code for code, _ in ended] == [0, 0]
    said = "".join(output for _, output in ended)
    assert said.count("setting up") == 1
    assert said.count("waiting for another make") == 2
    assert tiny(project) == "1.0"


def test_wrong_hash_is_refused(project: Path, packages: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A package with another hash than the locked one is not installed. pip's last lines name it."""
    with restore_after(project / LOCK), (project / ".venv.lock").open("ab") as held:
        pin(project, packages / "tiny-3.0-py3-none-any.whl", digest="0" * 64)  # no other test installs it
        with pytest.raises(SetUpError, match="does not have the hash"):
            install(project, held)
    assert "tiny==3.0" in capsys.readouterr().err


def test_unreachable_index_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no package index answers, one line says so."""
    for name, value in {"NO_INDEX": "0", "FIND_LINKS": "", "RETRIES": "1", "INDEX_URL": "http://127.0.0.1:9/"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with restore_after(project / LOCK), (project / ".venv.lock").open("ab") as held:
        (project / LOCK).write_text(f"absent==1.0 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(SetUpError, match="could not be reached"):
            install(project, held)


def test_python_without_venv_gets_advice(tmp_path: Path, packages: Path) -> None:
    """Debian has `ensurepip` in a package of its own. One line names it, with this Python's version."""
    project = new_project(tmp_path, packages)
    library = tmp_path / "lib" / Path(sysconfig.get_path("stdlib")).name
    library.mkdir(parents=True)
    for module in Path(sysconfig.get_path("stdlib")).iterdir():
        if module.name not in {"ensurepip", "site-packages"}:
            (library / module.name).symlink_to(module)
    code, said = finish(start(project, PYTHONHOME=str(tmp_path)))
    assert code == 1
    assert said.startswith("error: ")
    assert f"apt-get install python3.{sys.version_info.minor}-venv" in said
    assert said.count("\n") == 1


def test_old_python_is_refused(tmp_path: Path, packages: Path) -> None:
    """One line names the version that is needed and the one that runs."""
    project = new_project(tmp_path, packages)
    pretend = "import runpy, sys; sys.version_info = (3, 10, 9); runpy.run_path(sys.argv[1], run_name='__main__')"
    code, said = finish(start(project, "-c", pretend))
    assert code == 1
    assert said.startswith("error: Python 3.11 or newer is needed")
    assert said.count("\n") == 1
