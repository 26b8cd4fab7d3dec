"""Starts the compose stack, or says in plain words why it cannot. `make stack` runs it with the system's Python.

Only the standard library: Docker and Python are all that it needs. What to check comes from the compose file itself.
"""

import json
import re
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

OLDEST_ENGINE = (25, 0)  # `start_interval` of a health check
OLDEST_COMPOSE = (2, 24)  # the same, and `up --wait` that knows one-shot services
START_S = "300"
LOG_LINES = "12"
PORTS = {"proxy": "API_PORT", "grafana": "GRAFANA_PORT", "jaeger": "JAEGER_PORT", "prometheus": "PROMETHEUS_PORT"}
WELCOME = """
  API         http://localhost:{proxy}/docs
  Grafana     http://localhost:{grafana}
  Jaeger      http://localhost:{jaeger}
  Prometheus  http://localhost:{prometheus}
  token       {token}

`make traffic` brings it to life, `make smoke` checks every link, `make stack-down` ends it."""


class CannotStart(Exception):
    """Why the stack does not run, and what to do, in plain words."""


def main() -> None:
    """Start the stack and print where it is. If that fails, exit with 1 and a plain message."""
    try:
        sys.stdout.write(start() + "\n")
    except CannotStart as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)


def start() -> str:
    """Start the stack and wait until all of it is healthy. Return where it is, or raise CannotStart."""
    _check_docker()
    services = json.loads(_docker("compose", "config", "--format", "json"))["services"]
    ports = _published_ports(services)
    if not _docker("compose", "ps", "--quiet"):  # if the stack runs, its own services listen there
        _check_ports(ports)
    up = ["docker", "compose", "up", "--build", "--wait", "--wait-timeout", START_S]
    if subprocess.run(up, check=False).returncode:  # noqa: S603
        raise CannotStart(f"{_logs()}error: the stack did not become healthy, see above; `make stack-down` ends it.")
    return WELCOME.format(**ports, token=_token())


def _docker(*arguments: str) -> str:
    """Return what a docker command prints. If it fails, raise CannotStart with docker's own message."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        message = "error: there is no `docker` here. Install Docker: https://docs.docker.com/get-docker/"
        raise CannotStart(message) from None
    if done.returncode:
        raise CannotStart(f"error: `docker {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _check_docker() -> None:
    _refuse_older("Docker Engine", _docker("version", "--format", "{{.Server.Version}}"), OLDEST_ENGINE)
    try:
        compose = _docker("compose", "version", "--short")
    except CannotStart as error:
        raise CannotStart(f"{error}\nInstall its plugin: https://docs.docker.com/compose/install/") from None
    _refuse_older("Docker Compose", compose, OLDEST_COMPOSE)


def _refuse_older(program: str, version: str, oldest: tuple[int, int]) -> None:
    """Raise CannotStart for a `version` before `oldest`. Accept one that cannot be read."""
    found = re.search(r"(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < oldest:
        needed = "{}.{}".format(*oldest)
        raise CannotStart(f"error: {program} {version} is too old, {needed} is needed. Update Docker.")


def _published_ports(services: dict[str, Any]) -> dict[str, int]:
    """Return the host's port of each service that has one."""
    return {name: int(port["published"]) for name, service in services.items() for port in service.get("ports", ())}


def _check_ports(ports: dict[str, int]) -> None:
    taken = {name: port for name, port in ports.items() if _is_in_use(port)}
    if taken:
        hint = "error: port {} ({}) is taken: {}=<another> in .env moves it."
        raise CannotStart("\n".join(hint.format(port, name, PORTS[name]) for name, port in taken.items()))


def _is_in_use(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _logs() -> str:
    """Return the last log lines of every service that failed."""
    lines = _docker("compose", "ps", "--all", "--format", "json").splitlines()
    failed = {container["Service"] for container in map(json.loads, lines) if _has_failed(container)}
    logs = [_docker("compose", "logs", "--no-color", "--tail", LOG_LINES, name) for name in sorted(failed)]
    return "".join(f"{log}\n\n" for log in logs)


def _has_failed(container: dict[str, Any]) -> bool:
    return container["Health"] == "unhealthy" or bool(container["State"] == "exited" and container["ExitCode"])


def _token() -> str:
    """Return a token for the API. In production the API accepts only tokens of your own sign-in."""
    with suppress(CannotStart):
        return _docker("compose", "exec", "-T", "api", "python", "-m", "app", "token", "alice")
    return "from your own sign-in"


if __name__ == "__main__":
    main()
