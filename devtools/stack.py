"""Starts the compose stack, or says in plain words why it cannot. Run by the system's Python: `make stack`.

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
    """Start the stack and tell where it is; exit with 1 and a plain message where that fails."""
    try:
        sys.stdout.write(start() + "\n")
    except CannotStart as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)


def start() -> str:
    """Check, start, wait until all of it is healthy; return where it is.

    Raises: CannotStart.
    """
    check_engine()
    ports = published(json.loads(docker("compose", "config", "--format", "json")))
    if not docker("compose", "ps", "--quiet"):  # else they are taken by the stack itself
        check_ports(ports)
    up = ["docker", "compose", "up", "--build", "--wait", "--wait-timeout", START_S]
    if subprocess.run(up, check=False).returncode:  # noqa: S603
        raise CannotStart(
            f"{complaints()}error: the stack did not become healthy, see above; `make stack-down` ends it."
        )
    return WELCOME.format(**ports, token=token())


def token() -> str:
    """Return a token for the API, if it takes any that is made here: in production it does not."""
    with suppress(CannotStart):
        return docker("compose", "exec", "-T", "api", "python", "-m", "app", "token", "alice")
    return "from your own sign-in"


def docker(*arguments: str) -> str:
    """Return what a docker command prints.

    Raises: CannotStart, with its own complaint.
    """
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        raise CannotStart(
            "error: there is no `docker` here. Install Docker: https://docs.docker.com/get-docker/"
        ) from None
    if done.returncode:
        raise CannotStart(f"error: `docker {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def check_engine() -> None:
    """Raise CannotStart unless engine and Compose run and know all that the file asks for."""
    refuse_older("Docker Engine", docker("version", "--format", "{{.Server.Version}}"), OLDEST_ENGINE)
    try:
        compose = docker("compose", "version", "--short")
    except CannotStart as error:
        raise CannotStart(f"{error}\nInstall its plugin: https://docs.docker.com/compose/install/") from None
    refuse_older("Docker Compose", compose, OLDEST_COMPOSE)


def refuse_older(program: str, version: str, oldest: tuple[int, int]) -> None:
    """Raise CannotStart for a `version` before `oldest`; one that cannot be read is let through."""
    found = re.search(r"(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < oldest:
        wanted = "{}.{}".format(*oldest)
        raise CannotStart(f"error: {program} {version} is too old, {wanted} is needed. Update Docker.")


def published(config: Any) -> dict[str, int]:
    """Return the host's port of each service that has one, as the compose file and .env say."""
    services = config["services"].items()
    return {name: int(port["published"]) for name, service in services for port in service.get("ports", ())}


def check_ports(ports: dict[str, int]) -> None:
    """Raise CannotStart where another program listens on one of `ports`."""
    taken = [
        f"error: port {port} ({name}) is taken: {PORTS[name]}=<another> in .env moves it."
        for name, port in ports.items()
        if in_use(port)
    ]
    if taken:
        raise CannotStart("\n".join(taken))


def in_use(port: int) -> bool:
    """Whether somebody accepts connections on the loopback's `port`."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def complaints() -> str:
    """Return the last log lines of every service that failed."""
    containers = [json.loads(line) for line in docker("compose", "ps", "--all", "--format", "json").splitlines()]
    failed = [
        c["Service"] for c in containers if c["Health"] == "unhealthy" or (c["State"] == "exited" and c["ExitCode"])
    ]
    return "".join(
        f"{docker('compose', 'logs', '--no-color', '--tail', LOG_LINES, name)}\n\n" for name in sorted(set(failed))
    )


if __name__ == "__main__":
    main()
