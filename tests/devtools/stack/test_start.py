"""`make stack` says in plain words why the stack cannot start."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from devtools.stack.docker import CannotStart
from devtools.stack.refusals import PORTS
from devtools.stack.start import go_through
from tests.process import free_port
from tests.support import run_handler

ROOT = Path(__file__).parents[3]
OF_TODAY = {"version": "28.2.2", "compose_version": "2.40.0"}
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

    def run(*arguments: str, **answers: str) -> subprocess.CompletedProcess[str]:
        docker = tmp_path / "docker"
        if answers:
            spoken = {key.replace("_", " "): answer for key, answer in answers.items()}
            docker.write_text(DOCKER.format(python=sys.executable, answers=spoken))
            docker.chmod(0o755)
        command = (sys.executable, "-Esm", "devtools.stack", *arguments)
        return subprocess.run(
            command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
        )

    return run


def config(port: int) -> str:
    return json.dumps(CONFIG).replace("PORT", str(port))


def well(port: int, others: dict[str, Any]) -> dict[str, str]:
    """What docker says of a stack that may start: the proxy listens on `port`, and is its own."""
    file = {"services": others | {"proxy": {"ports": [{"published": str(port)}]}}}
    own = {"Publishers": [{"PublishedPort": port}]}
    return OF_TODAY | {"compose_config": json.dumps(file), "compose_ps_--all": "", "compose_ps": json.dumps(own)}


@contextmanager
def leading_to(status: int) -> Iterator[int]:
    """Answer as a proxy before replicas that are ready, or are not. Yield the port."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"yes" if status == 200 else b"no")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with run_handler(Proxy) as port:
        yield port


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
    others = {
        name: {"ports": [{"published": "9"}]} for name in ("grafana", "jaeger", "prometheus", "alertmanager", "loki")
    }
    for answer, shown in (({"compose_exec": "a.b.c"}, "a.b.c"), ({}, "from your own sign-in")):
        with leading_to(200) as port:
            done = start(**well(port, others), compose_up="", **answer)
        assert done.returncode == 0, done.stderr
        assert f"http://localhost:{port}/docs" in done.stdout
        assert shown in done.stdout


def test_a_proxy_that_leads_nowhere_is_told() -> None:
    """Every container may be healthy, and still nobody reaches the API."""
    with leading_to(503) as port, pytest.raises(CannotStart, match=r"but the proxy does not lead to the API: 503 no$"):
        go_through(port, 0.1)
    with pytest.raises(CannotStart, match="Connection refused"):
        go_through(free_port(), 0.1)


@pytest.mark.parametrize("scale", ["api=0", "api=10", "redis=2", "three"])
def test_only_the_api_is_scaled(start: Start, scale: str) -> None:
    """To as many replicas as the proxy has room for."""
    done = start("--scale", scale)
    assert done.returncode == 2
    assert done.stderr.endswith("must be api=1 to api=9: nothing else can be scaled\n")


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
    """Whose port it is, and how to move it. The stack's own container does not count as another."""
    with socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = start(**OF_TODAY, compose_config=config(port), compose_ps="")
    assert done.returncode == 1
    assert done.stderr == f"error: port {port} (proxy) is taken: API_PORT=<another> in .env moves it.\n"


@pytest.mark.parametrize(
    ("service", "name", "variable", "passwords"),
    [
        ("postgres", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD", ["a\nb"]),
        ("logins", "DATABASE_PASSWORD", "DATABASE_PASSWORD", ["a\tb"]),
        ("logins", "EXPORTER_PASSWORD", "EXPORTER_PASSWORD", ["a\nb", "\u00e9tude", "no\u00a0break"]),
        ("grafana", "GF_SECURITY_ADMIN_PASSWORD", "GRAFANA_PASSWORD", ["a$${b}", "a$$__env{b}", "%(a)s", "a\nb"]),
    ],
)
def test_a_password_that_would_arrive_changed_is_refused(
    start: Start, service: str, name: str, variable: str, passwords: list[str]
) -> None:
    """Before anything starts, in a line that names its variable and does not show it."""
    for password in passwords:
        file = {"services": {service: {"environment": {name: password}}}}
        done = start(**OF_TODAY, compose_config=json.dumps(file), compose_ps="")
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {variable}: must be of ")
        assert (done.stderr.count("\n"), password in done.stderr) == (1, False)


def test_passwords_of_many_signs_are_taken(start: Start) -> None:
    """Spaces, quotes and what means something in a URL are no reason to refuse."""
    password = "it's 100% :odd @/ #\" $$x\\ &=?,+"
    services = {
        "postgres": {"environment": {"POSTGRES_PASSWORD": password}},
        "logins": {"environment": {"DATABASE_PASSWORD": password, "EXPORTER_PASSWORD": password}},
        "grafana": {"environment": {"GF_SECURITY_ADMIN_PASSWORD": password}},
    }
    done = start(**OF_TODAY, compose_config=json.dumps({"services": services}), compose_ps="")
    assert "_PASSWORD" not in done.stderr


@pytest.mark.parametrize(
    ("name", "taken", "said"),
    [
        ("other_default", "10.213.0.0/16 fd00::/8", "network 10.213.77.0/24 is taken by other_default: STACK_SUBNET="),
        ("own_default", "10.213.77.0/24", ""),
        ("own_default", "172.18.0.0/16", "runs in 172.18.0.0/16, not in 10.213.77.0/24: `make stack-down` first"),
        ("bridge", "172.17.0.0/16", ""),
    ],
)
def test_a_network_that_cannot_be_had_is_told(start: Start, name: str, taken: str, said: str) -> None:
    """Docker's own message does not say what to do. The stack's own network of before is no other one, if unchanged."""
    networks = {"default": {"name": "own_default", "ipam": {"config": [{"subnet": "10.213.77.0/24"}]}}}
    file = json.dumps({"services": {}, "networks": networks})
    done = start(**OF_TODAY, compose_config=file, compose_ps="", network_ls="1", network_inspect=f"{name} {taken}")
    assert said in done.stderr
    assert bool(said) == ("did not become healthy" not in done.stderr)


def test_a_network_that_is_none_is_refused(start: Start) -> None:
    """The variable is named."""
    networks = {"default": {"name": "own_default", "ipam": {"config": [{"subnet": "10.213.77.1/24"}]}}}
    done = start(**OF_TODAY, compose_config=json.dumps({"services": {}, "networks": networks}), compose_ps="")
    assert done.stderr == "error: STACK_SUBNET: must be a network, such as 10.213.78.0/24, not 10.213.77.1/24.\n"


@pytest.mark.parametrize(
    ("state", "health", "times"),
    [("running", "unhealthy", 1), ("restarting", "", 1), ("running", "healthy", 0), ("created", "", 0)],
)
def test_a_service_that_fails_is_shown_with_its_log(start: Start, state: str, health: str, times: int) -> None:
    """Also what crashes in a loop, which Docker starts again and again. What serves, or only waits for it, is not."""
    container = json.dumps({"Service": "proxy", "Health": health, "State": state, "ExitCode": 1})
    answers = {"compose_ps_--all_--format": container, "compose_logs": "proxy | the reason"}
    done = start(**OF_TODAY, **answers, compose_config='{"services": {}}', compose_ps="")
    assert done.returncode == 1
    assert done.stderr.count("proxy | the reason") == times
    assert "did not become healthy" in done.stderr


def test_the_real_variables_are_named() -> None:
    """Each port that the compose file publishes has its variable in the message."""
    ports = {"ALERTMANAGER_PORT", "API_PORT", "GRAFANA_PORT", "JAEGER_PORT", "LOKI_PORT", "PROMETHEUS_PORT"}
    compose = (ROOT / "docker-compose.yml").read_text()
    assert all(f"${{{name}:-" in compose for name in ports)
    assert set(PORTS.values()) == ports
