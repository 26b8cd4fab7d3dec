"""What a user might pick instead: Fastify with pg, JWT, limits, prom-client, pino and OpenTelemetry, from npm."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url

from benchmarks.servers import Mode

SOURCE = Path(__file__).with_name("fastify")


class NoPeer(RuntimeError):
    """The peer cannot be installed; the message is one line."""


def install(folder: Path) -> Path:
    """Install the peer's packages in `folder`, and return its program.

    Raises:
        NoPeer: there is no Node, or npm does not get the packages.
    """
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        raise NoPeer("Fastify cannot be measured: Node and npm are not installed")
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    done = subprocess.run(  # noqa: S603  npm of this machine
        [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NoPeer(f"Fastify cannot be measured: npm ended with {done.returncode}: {done.stderr.strip()[:200]}")
    return folder / "server.js"


def modes(program: Path, database_url: str) -> Mapping[str, Mode]:
    """Return the peer's modes. It asks the textbook's database, whose rows nothing but its own WHERE guards."""
    url = make_url(database_url)
    database = {"PGHOST": str(url.query["host"]), "PGUSER": str(url.username), "PGDATABASE": str(url.database)}
    node = shutil.which("node") or "node"
    return {
        "fastify off": Mode((str(program),), database, "textbook", node),
        "fastify on": Mode((str(program),), database | {"OBSERVE": "1"}, "textbook", node),
    }
