"""`make stack` says in plain words why the stack cannot start."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from socket import socket

import pytest

STACK = Path(__file__).parents[3] / "devtools/stack.py"
CONFIG = {"services": {"proxy": {"ports": [{"published": "PORT", "host_ip": "127.0.0.1"}]}}}
# To the shell the second line starts Python, to Python it is a text: a shebang cannot name a path with a space.
DOCKER = """#!/bin/sh
"exec" "{python}" "$0" "$@"
import sys
arguments = sys.argv[1:]
answers = {answers!r}
key = next((key for key in answers if " ".join(arguments).startswith(key)), None)
if key is None:
    sys.exit("no answer to: " + " ".join(arguments))
print(answers[key])
"""

Start = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run `make stack`'s program with a `docker` that gives these answers; without any, there is none."""

    def run(**answers: str) -> subprocess.CompletedProcess[str]:
        docker = tmp_path / "docker"
        if answers:
            spoken = {key.replace("_", " "): answer for key, answer in answers.items()}
            docker.write_text(DOCKER.format(python=sys.executable, answers=spoken))
            docker.chmod(0o755)
        command = (sys.executable, "-I", STACK)
        return subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)

    return run


def config(port: int) -> str:
    return json.dumps(CONFIG).replace("PORT", str(port))


def test_without_docker_it_says_where_to_get_it(start: Start) -> None:
    """One line, no traceback."""
    done = start()
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no `docker` here.")
    assert done.stderr.count("\n") == 1


def test_an_engine_that_does_not_run_speaks_for_itself(start: Start) -> None:
    """Docker's own complaint is passed on."""
    done = start(compose="never asked")
    assert done.returncode == 1
    assert "`docker version --format {{.Server.Version}}` failed" in done.stderr


def test_a_docker_without_compose_is_told_where_to_get_it(start: Start) -> None:
    """Debian's docker.io comes without the plugin."""
    done = start(version="28.2.2")
    assert done.returncode == 1
    assert "Install its plugin" in done.stderr


def test_a_stack_that_is_healthy_says_where_it_is(start: Start) -> None:
    """Addresses by the ports of the file, and a token; one that makes no tokens is as healthy."""
    ports = {
        name: {"ports": [{"published": "9", "host_ip": "127.0.0.1"}]} for name in ("grafana", "jaeger", "prometheus")
    }
    file = json.dumps({"services": CONFIG["services"] | ports}).replace("PORT", "8123")
    answers = {"version": "28.2.2", "compose_version": "2.40.0", "compose_config": file, "compose_ps": "running"}
    for answer, shown in (({"compose_exec": "a.b.c"}, "a.b.c"), ({}, "from your own sign-in")):
        done = start(**answers, compose_up="", **answer)
        assert done.returncode == 0, done.stderr
        assert "http://localhost:8123/docs" in done.stdout
        assert shown in done.stdout


@pytest.mark.parametrize(
    ("engine", "compose", "said"),
    [
        ("24.0.9", "2.40.0", "Docker Engine 24.0.9 is too old, 25.0 is needed"),
        ("28.2.2", "v2.23.3-desktop.1", "Docker Compose v2.23.3-desktop.1 is too old, 2.24 is needed"),
    ],
)
def test_what_is_too_old_is_named(start: Start, engine: str, compose: str, said: str) -> None:
    """The message has the version that is there and the one that is needed."""
    done = start(version=engine, compose_version=compose)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_port_that_is_taken_is_named_with_its_variable(start: Start) -> None:
    """Whose port it is, and how to move it."""
    with socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = start(version="28.2.2", compose_version="2.40.0", compose_config=config(port), compose_ps="")
    assert done.returncode == 1
    assert done.stderr == f"error: port {port} (proxy) is taken: API_PORT=<another> in .env moves it.\n"


def test_a_service_that_fails_is_shown_with_its_log(start: Start) -> None:
    """Where the stack does not become healthy, the last lines of what failed say why."""
    failed = json.dumps({"Service": "grafana", "Health": "unhealthy", "State": "running", "ExitCode": 0})
    answers = {"compose_ps_--all": failed, "compose_logs": "grafana | invalid password"}
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = start(version="28.2.2", compose_version="2.40.0", compose_config=config(port), **answers, compose_ps="")
    assert done.returncode == 1
    assert "grafana | invalid password" in done.stderr
    assert "did not become healthy" in done.stderr


def test_the_real_variables_are_named() -> None:
    """Each port that the compose file publishes has its variable in the message."""
    ports = {"API_PORT", "GRAFANA_PORT", "JAEGER_PORT", "PROMETHEUS_PORT"}
    compose = (STACK.parents[1] / "docker-compose.yml").read_text()
    assert all(f"${{{name}:-" in compose and f'"{name}"' in STACK.read_text() for name in ports)
