"""`make dev`: what it does when a file is saved, when it is stopped, and when it is killed."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_server

import httpx
import pytest

from tests.devtools.dev import CHILD, Project
from tests.devtools.processes import find_processes, is_running
from tests.support import wait_until

HEALTH = "app/health.py"
SLOW = """
import time
from fastapi import APIRouter

router = APIRouter()

@router.get("/slow")
def slow() -> str:
    time.sleep(float("{seconds}"))
    return "done"
"""


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Project:
    return Project(tmp_path, DATABASE_URL=database_url)


def children_of(port_url: str) -> list[int]:
    return find_processes(CHILD)


def test_save(project: Project) -> None:
    """x"""
    with project.dev() as dev:
        dev.wait_for("make psql")
        assert dev.get("/health").json() == {"status": "healthy"}
        project.edit(HEALTH, "healthy", "splendid")
        dev.wait_for("served again after")
        print(dev.get("/health").text)
        project.edit(HEALTH, "import", "imp ort")
        dev.wait_for("The next save")
        project.edit(HEALTH, "imp ort", "import")
        dev.wait_for("served again after", 2)
        project.edit(HEALTH, "from typing", "import no_such\nfrom typing")
        dev.wait_for("The next save", 2)
        print(dev.shown)
        raise SystemExit
