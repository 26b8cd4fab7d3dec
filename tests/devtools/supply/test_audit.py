"""`make audit`: what was not checked is never called clean."""

import json
import os
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from devtools.supply.audit import CLEAN, NAMED, NOT_CHECKED, AuditFailed, ask, judge
from devtools.supply.lock import Package, read_locks
from tests.process import ROOT

PACKAGES = [Package(name, "1.0", "", ("0" * 64,), ()) for name in ("beech", "oak")]
ADVISORY = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["1.1", "2.0"], "description": ""}


def clean(name: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": []}


def skipped(name: str) -> dict[str, Any]:
    """As pip-audit has it, which then says that there is no known vulnerability, and exits with 0."""
    return {"name": name, "skip_reason": f"Dependency not found on PyPI and could not be audited: {name} (1.0)"}


@pytest.mark.slow
def test_it_says_so_where_no_service_answers() -> None:
    """In one line, with an exit code of its own."""
    with socket.socket() as closed:  # bound, but nobody listens
        closed.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{closed.getsockname()[1]}"
        environment = {"PATH": os.defpath, "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy}
        command = [sys.executable, "-m", "devtools", "audit"]
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.stdout == "Nothing was checked: no advisory service answers (pypi and osv).\n"
    assert (ended.returncode, ended.stderr) == (NOT_CHECKED, "")


class Osv(BaseHTTPRequestHandler):
    """A service that has an advisory for Redis' package, in OSV's schema."""

    def do_POST(self) -> None:
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
        events = [{"introduced": "0"}, {"fixed": "99.1"}]
        affected = [{"package": package, "ranges": [{"type": "ECOSYSTEM", "events": events}]}]
        advisory = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "summary": "", "affected": affected}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulns": [advisory]} if package["name"] == "redis" else {}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.slow
def test_every_locked_package_is_asked_for() -> None:
    """Those of other platforms too, and both versions of one; pip-audit's own answer is understood."""
    packages = read_locks(ROOT)
    (redis,) = (package for package in packages if package.name == "redis")
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        told = ask("osv", packages, f"--osv-url=http://127.0.0.1:{server.server_port}/v1/query")
        server.shutdown()
    assert judge("osv", packages, told) == (
        [
            f"redis {redis.version}: PYSEC-2026-1, CVE-2026-1; mended in 99.1",
            f"osv was asked for {len(packages)} packages, and has 1 advisories for them.",
        ],
        NAMED,
    )


def test_a_broken_pip_audit_is_no_silent_service() -> None:
    """What is wrong is told: here, an option that it does not know."""
    with pytest.raises(AuditFailed, match="unrecognized arguments: --wrong"):
        ask("osv", PACKAGES, "--wrong")


def test_a_mirror_without_advisories_is_no_service() -> None:
    """It answers, and knows none of the packages."""
    assert judge("pypi", PACKAGES, [skipped("beech"), skipped("oak")]) is None


def test_a_package_that_was_not_checked_is_told() -> None:
    """Whether the service skipped it or said nothing of it."""
    for told in ([clean("beech"), skipped("oak")], [clean("beech")]):
        verdict = judge("pypi", PACKAGES, told)
        assert verdict
        assert verdict.code == NOT_CHECKED
        assert verdict.lines[-1] == "Not checked, since pypi does not know them: oak 1.0."


def test_an_advisory_is_told() -> None:
    """Its package, its names, and what mends it."""
    verdict = judge("osv", PACKAGES, [clean("beech") | {"vulns": [ADVISORY]}, clean("oak")])
    assert verdict == (
        [
            "beech 1.0: PYSEC-2026-1, CVE-2026-1; mended in 1.1, 2.0",
            "osv was asked for 2 packages, and has 1 advisories for them.",
        ],
        NAMED,
    )


def test_clean_is_when_each_package_was_asked_for() -> None:
    """And none has an advisory."""
    verdict = judge("osv", PACKAGES, [clean("beech"), clean("oak")])
    assert verdict == (["osv was asked for 2 packages, and has 0 advisories for them."], CLEAN)
