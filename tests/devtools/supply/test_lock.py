"""The lock files: what is installed is what they name, and who keeps them up to date can write them again."""

import re

import pytest

from devtools.supply.lock import LOCKS, read_lock
from tests.process import ROOT

KNOWN_TO_RENOVATE = {
    "--constraints",
    "--generate-hashes",
    "--group",
    "--no-emit-package",
    "--output-file",
    "--python-version",
    "--universal",
}
each_lock = pytest.mark.parametrize("lock", LOCKS)


@each_lock
def test_each_package_is_read(lock: str) -> None:
    """With all of its hashes: none of the file is left out."""
    text = (ROOT / lock).read_text()
    packages = read_lock(ROOT / lock)
    assert [f"{package.name}=={package.version}" for package in packages] == re.findall(r"^[\w.-]+==\S+", text, re.M)
    hashes = [digest for package in packages for digest in package.hashes]
    assert hashes == re.findall(r"sha256:(\w+)", text)
    assert all(package.hashes and package.needed_by for package in packages)


@each_lock
def test_it_names_no_index(lock: str) -> None:
    """Where packages come from is for each machine to say."""
    assert "://" not in (ROOT / lock).read_text()


def test_what_is_tested_is_what_runs() -> None:
    """Each package of the image is, in the same version, in what the tests run on."""
    image, everything = ({package[:4] for package in read_lock(ROOT / lock)} for lock in LOCKS)
    assert image < everything


def test_renovate_can_write_them_again() -> None:
    """It runs the command of a lock file's second line, in the order of the names, and knows only options with `=`.

    Its documentation has the rules: "Assumption of header with a command", of the manager pip-compile.
    """
    first, second = ((ROOT / lock).read_text().splitlines()[1].split() for lock in sorted(LOCKS))
    for command in (first, second):
        assert command[:4] + command[-1:] == ["#", "uv", "pip", "compile", "pyproject.toml"]
        assert {option.partition("=")[0] for option in command[4:-1]} <= KNOWN_TO_RENOVATE
    assert f"--output-file={min(LOCKS)}" in first
    assert {f"--constraints={min(LOCKS)}", f"--output-file={max(LOCKS)}"} <= set(second)
