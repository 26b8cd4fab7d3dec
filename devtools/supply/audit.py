"""Which advisories name a locked package; and plainly, if no service could be asked."""

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from devtools.supply.lock import Package, read_locks

SERVICES = ("pypi", "osv")  # in this order; the next one is asked if one does not answer
TIMEOUT_S = 300
NO_ANSWER = re.compile(r"^requests\.exceptions\.|ServiceError$|your network may be blocking this service", re.MULTILINE)
CLEAN, NAMED, NOT_CHECKED = 0, 1, 3  # exit codes; 2 is what Typer has for a wrong option


class Verdict(NamedTuple):
    """What to print, and the exit code."""

    lines: list[str]
    code: int


class AuditFailed(RuntimeError):
    """pip-audit does not run, or could not read an answer. The message is one line."""


def audit(project: Path) -> Verdict:
    """Ask the services for all packages of both lock files. What was not checked is never called clean."""
    packages = read_locks(project)
    try:
        for service in SERVICES:
            verdict = judge(service, packages, ask(service, packages))
            if verdict:
                return verdict
    except AuditFailed as error:
        return Verdict([f"Nothing was checked: pip-audit failed: {error}"], NOT_CHECKED)
    asked = " and ".join(SERVICES)
    return Verdict([f"Nothing was checked: no advisory service answers ({asked})."], NOT_CHECKED)


def ask(service: str, packages: Iterable[Package], *options: str) -> list[dict[str, Any]]:
    """Return what pip-audit says of each package; nothing if the service does not answer. Or raise AuditFailed.

    It refuses a package that it is given twice, so that the second version of one is asked for by itself.
    """
    rounds: dict[int, list[Package]] = defaultdict(list)
    versions = Counter[str]()
    for package in packages:
        rounds[versions[package.name]].append(package)
        versions[package.name] += 1
    return [one for asked in rounds.values() for one in run(asked, f"--vulnerability-service={service}", *options)]


def run(packages: Iterable[Package], *options: str) -> list[dict[str, Any]]:
    """Return what one run of pip-audit says."""
    fixed = ["--disable-pip", "--require-hashes", "--format=json", "--progress-spinner=off"]
    with TemporaryDirectory() as folder:
        path = Path(folder, "requirements.txt")
        path.write_text("".join(map(state, packages)))
        command = [sys.executable, "-m", "pip_audit", *fixed, *options, f"--requirement={path}"]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)  # noqa: S603
        except subprocess.TimeoutExpired:
            return []
    if ended.stdout:
        told: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
        return told
    if NO_ANSWER.search(ended.stderr):
        return []
    raise AuditFailed(ended.stderr.strip().rpartition("\n")[2] or f"exit code {ended.returncode}")


def state(package: Package) -> str:
    """Return a package as a requirement with its hashes. It has no marker, so that all platforms' are asked for."""
    hashes = [f"--hash=sha256:{digest}" for digest in package.hashes]
    return " ".join([f"{package.name}=={package.version}", *hashes]) + "\n"


def judge(service: str, packages: Sequence[Package], told: Iterable[dict[str, Any]]) -> Verdict | None:
    """Return what a service's answer means; None if it knows none of the packages.

    A mirror may have the packages and lack the advisories. pip-audit skips what it does not find, and then says that
    there is no known vulnerability.
    """
    answers = [one for one in told if "vulns" in one]
    if not answers:
        return None
    named = [tell(one, advisory) for one in answers for advisory in one["vulns"]]
    checked = {(one["name"], one["version"]) for one in answers}
    rest = [f"{one.name} {one.version}" for one in packages if (one.name, one.version) not in checked]
    lines = [*named, f"{service} was asked for {len(checked)} packages, and has {len(named)} advisories for them."]
    if rest:
        lines.append(f"Not checked, since {service} does not know them: {', '.join(rest)}.")
    return Verdict(lines, NAMED if named else NOT_CHECKED if rest else CLEAN)


def tell(package: dict[str, Any], advisory: dict[str, Any]) -> str:
    """Return a line on an advisory: its id and its other names, and which versions it is mended in."""
    ids = ", ".join([advisory["id"], *advisory["aliases"]])
    mended = ", ".join(advisory["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {ids}; mended in {mended}"
