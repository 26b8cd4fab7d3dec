"""Starts the stack, or brings the one that runs up to date."""

import argparse
import re
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from time import monotonic, sleep
from typing import Any

from devtools.stack import replicas
from devtools.stack.docker import CannotStart, ask, check_docker, compose, list_containers, not_healthy, read_project
from devtools.stack.refusals import find_refusals

START_S = "300"
COMPLETED = "service_completed_successfully"
THROUGH_S = 30.0  # the proxy asks Docker's DNS every five seconds
POLL_S = 0.5
MAX_REPLICAS = 9  # the proxy has room for ten, and one is added before another goes
WELCOME = """
  API           http://localhost:{proxy}/docs
  Grafana       http://localhost:{grafana}
  Jaeger        http://localhost:{jaeger}
  Prometheus    http://localhost:{prometheus}
  Alertmanager  http://localhost:{alertmanager}
  token         {token}

`make traffic` brings it to life, `make smoke` checks every link, `make stack-down` ends it."""


def main(arguments: list[str]) -> None:
    """Start the stack and print where it is. If that fails, exit with 1 and a plain message."""
    parser = argparse.ArgumentParser(prog="make stack", usage='make stack ARGS="--scale api=3"', allow_abbrev=False)
    parser.add_argument("--scale", type=_parse_scale, default=1, metavar="api=N", help="replicas of the API")
    wanted = parser.parse_args(arguments).scale
    try:
        sys.stdout.write(start(wanted) + "\n")
    except CannotStart as error:
        sys.exit(f"{error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parse_scale(text: str) -> int:
    found = re.fullmatch(r"api=(\d)", text)
    if not found or not 1 <= int(found[1]) <= MAX_REPLICAS:
        raise argparse.ArgumentTypeError(f"must be api=1 to api={MAX_REPLICAS}: nothing else can be scaled")
    return int(found[1])


def start(wanted: int) -> str:
    """Start the stack with `wanted` replicas of the API, wait until all of it is healthy. Return where it is.

    What runs goes on answering while replicas are added, replaced and taken away.

    Raises: CannotStart.
    """
    check_docker()
    project = read_project()
    services = project["services"]
    ports = {name: int(port["published"]) for name, service in services.items() for port in service.get("ports", ())}
    if refusals := find_refusals(project, ports):
        raise CannotStart("\n".join(f"error: {refusal}" for refusal in refusals))
    if any(container["State"] == "running" for container in list_containers("--all", "api")):
        _update(services)
        replicas.replace(services["api"]["image"], wanted)
    else:
        compose("up", "--build", "--wait", "--wait-timeout", START_S, "--scale", f"api={wanted}")
    if "proxy" in ports:
        go_through(ports["proxy"])
    return WELCOME.format(**ports, token=_token())


def _update(services: dict[str, Any]) -> None:
    """Build the image, bring every other service up to date, and do what the API waits for. Its replicas stay."""
    once = [name for name, wait in services["api"]["depends_on"].items() if wait["condition"] == COMPLETED]
    compose("build", "api")
    compose("up", "--wait", "--wait-timeout", START_S, "--no-deps", *(services.keys() - {"api", *once}))
    compose("up", "--detach", "--no-deps", *once)  # --wait takes its end for a failure, where nobody depends on it
    try:
        ask("compose", "wait", *once)
    except CannotStart:
        raise not_healthy() from None


def go_through(port: int, patience_s: float = THROUGH_S) -> None:
    """Wait until the proxy leads to a replica that is ready. Raise CannotStart if it does not."""
    end, reason = monotonic() + patience_s, ""
    while monotonic() < end:
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
            if answer.status == 200:  # noqa: PLR2004
                return
            reason = f"{answer.status} {answer.read().decode(errors='replace')}"
        except (OSError, HTTPException) as error:
            reason = str(error) or type(error).__name__
        sleep(POLL_S)
    raise CannotStart(f"error: all is healthy, but the proxy does not lead to the API: {reason}")


def _token() -> str:
    """Return a token for the API. In production the API accepts only tokens of your own sign-in."""
    with suppress(CannotStart):
        return ask("compose", "exec", "-T", "api", "python", "-m", "app", "token", "alice")
    return "from your own sign-in"
