"""The processes under load. Each runs in one mode on the first core; everything else is on the other cores."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import psutil

from benchmarks.calls import SECRET
from devtools.postgres.cluster import end_with_parent

ROOT = Path(__file__).parents[1]
START_S = 30.0
STOP_S = 12.0
SERVER_CORES, OTHER_CORES = [0], list(range(1, os.cpu_count() or 1)) or [0]
PROJECT = ("-m", "benchmarks.project")
UNLIMITED = (*PROJECT, "--unlimited")
UVICORN = ("-m", "uvicorn", "--log-level", "warning", "--port")

OFF = {"OTEL_SDK_DISABLED": "true", "METRICS_ENABLED": "false", "LOG_LEVEL": "WARNING"}
LIMIT = {"RATE_LIMIT": "1000000000/minute"}


@dataclass(frozen=True)
class Mode:
    """How a server is started: the program, its environment, and the name of its database."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    database: str = "tasks"
    program: str = sys.executable


def all_off_except(*names: str) -> dict[str, str]:
    """Return the project's environment with everything off except these."""
    return LIMIT | {name: value for name, value in OFF.items() if name not in names}


MODES = {
    "off": Mode(UNLIMITED, all_off_except()),
    "limits": Mode(PROJECT, all_off_except()),
    "logs": Mode(UNLIMITED, all_off_except("LOG_LEVEL")),
    "metrics": Mode(UNLIMITED, all_off_except("METRICS_ENABLED")),
    "traces": Mode(UNLIMITED, all_off_except("OTEL_SDK_DISABLED")),
    "on": Mode(PROJECT, LIMIT),
    "on at 10 %": Mode(PROJECT, LIMIT | {"OTEL_TRACES_SAMPLER_ARG": "0.1"}),
    "on at 1 %": Mode(PROJECT, LIMIT | {"OTEL_TRACES_SAMPLER_ARG": "0.01"}),
    "textbook off": Mode((*UVICORN, "{port}", "--no-access-log", "benchmarks.textbook:app"), {}, "textbook"),
    "textbook on": Mode((*UVICORN, "{port}", "benchmarks.textbook:app"), {"OBSERVE": "1"}, "textbook"),
    "floor": Mode((*UVICORN, "{port}", "--no-access-log", "benchmarks.floor:app"), {}),
}


@dataclass(frozen=True)
class ServerProcess:
    """A server that answers."""

    port: int
    process: psutil.Process
    ready_s: float

    def cpu_s(self) -> float:
        """Return the CPU seconds it has used so far, in all threads, user and system."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def rss_mib(self) -> float:
        """Return its resident memory."""
        return float(self.process.memory_info().rss / 2**20)


@contextmanager
def run_server(mode: Mode, databases: Mapping[str, str], receiver: str) -> Iterator[ServerProcess]:
    """Run a server until the block ends. Raise RuntimeError if it does not answer in time."""
    port = free_port()
    environment = environment_of(mode, databases, receiver) | {"PORT": str(port)}
    started = time.monotonic()
    command = [mode.program, *(part.format(port=port) for part in mode.command)]
    with run_process(command, environment, SERVER_CORES) as server:
        wait_until_healthy(server, port)
        yield ServerProcess(port, psutil.Process(server.pid), time.monotonic() - started)


def environment_of(mode: Mode, databases: Mapping[str, str], receiver: str) -> dict[str, str]:
    """Return the environment of a server in this mode."""
    return {
        "PATH": os.environ["PATH"],
        "BETTER_AUTH_SECRET": SECRET,
        "DATABASE_URL": databases[mode.database],
        "LOG_FORMAT": "json",
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # a measurement's spans are sent before it ends
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        **mode.environment,
    }


@contextmanager
def run_process(
    command: list[str], environment: Mapping[str, str], cores: list[int]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on these cores. On Linux it ends when this process does."""
    child = subprocess.Popen(  # noqa: S603  our own programs
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=end_with_parent(os.getpid()),  # noqa: PLW1509  this process has one thread
    )
    pin(child.pid, cores)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
        child.kill()
        child.wait()


def pin(pid: int, cores: list[int]) -> None:
    """Keep a process on these cores, except on macOS, which cannot."""
    if hasattr(psutil.Process, "cpu_affinity"):
        psutil.Process(pid).cpu_affinity(cores)


def wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until /health answers 200."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"a server ended with {server.returncode}: {server.args!r}")
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:  # noqa: PLR2004
                return
        time.sleep(0.01)
    raise RuntimeError(f"a server did not answer within {START_S:.0f} s: {server.args!r}")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
