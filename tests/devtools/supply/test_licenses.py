"""`make check` refuses a package whose license pyproject.toml does not allow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.supply.licenses import check_licenses, is_allowed
from tests.process import ROOT


def edit(project: Path, old: str, new: str) -> None:
    path = project / "pyproject.toml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_projects_own_packages_are_allowed() -> None:
    """And `make check` asks so."""
    ended = subprocess.run([sys.executable, "-m", "devtools", "licenses"], cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert "-m devtools licenses" in (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]


def test_a_forbidden_license_is_told(project: Path) -> None:
    """With the package and the license."""
    edit(project, ', "PSF-2.0"]', "]")
    faults, _ = check_licenses(project)
    assert "typing-extensions is under PSF-2.0, which pyproject.toml does not allow" in faults


def test_a_package_without_a_license_is_told(project: Path) -> None:
    """What is not known is not allowed."""
    edit(project, 'nodeenv = "BSD-3-Clause"\n', "")
    faults, _ = check_licenses(project)
    assert faults == ["nodeenv is under NOASSERTION, which pyproject.toml does not allow"]


def test_an_exception_that_is_not_needed_is_told(project: Path) -> None:
    """So that none is left when its package has gone."""
    edit(project, "[tool.licenses.except]", '[tool.licenses.except]\nredis = "it was needed once"')
    faults, _ = check_licenses(project)
    assert faults == ["redis needs no exception in pyproject.toml"]


def test_what_was_not_looked_at_is_told(project: Path) -> None:
    """A package of another platform is not installed, and has no metadata here."""
    _, summary = check_licenses(project)
    assert re.fullmatch(r"\d+ packages have their licenses checked\. Not installed here, .*\bcolorama 0.*", summary)


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("ISC AND (MIT OR GPL-3.0-only)", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("NOASSERTION", False),
    ],
)
def test_an_expression_is_understood(expression: str, *, allowed: bool) -> None:
    """All that AND joins must be allowed, of what OR joins one."""
    assert is_allowed(expression, ["ISC", "MIT"]) is allowed
