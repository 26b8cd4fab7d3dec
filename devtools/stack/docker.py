"""Runs docker, and says in plain words what it lacks."""

import json
import re
import subprocess
from typing import Any

OLDEST_ENGINE = (25, 0)  # `start_interval` of a health check
OLDEST_COMPOSE = (2, 24)  # the same, and `up --wait` that knows one-shot services
LOG_LINES = "12"


class CannotStart(Exception):
    """Why the stack does not run, and what to do, in plain words."""


def ask(*arguments: str) -> str:
    """Return what a docker command prints. If it fails, raise CannotStart with docker's own message."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        message = "error: there is no `docker` here. Install Docker: https://docs.docker.com/get-docker/"
        raise CannotStart(message) from None
    if done.returncode:
        raise CannotStart(f"error: `docker {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def compose(*arguments: str) -> None:
    """Run a compose command that shows what it does. If it fails, raise CannotStart with the logs of what failed."""
    if subprocess.run(["docker", "compose", *arguments], check=False).returncode:  # noqa: S603, S607
        raise not_healthy()


def not_healthy() -> CannotStart:
    """Return the error of a stack in which something failed, with its logs."""
    return CannotStart(
        f"{_show_failed()}error: the stack did not become healthy, see above; `make stack-down` ends it."
    )


def check_docker() -> None:
    """Raise CannotStart if Docker or Compose is missing or too old."""
    _refuse_older("Docker Engine", ask("version", "--format", "{{.Server.Version}}"), OLDEST_ENGINE)
    try:
        version = ask("compose", "version", "--short")
    except CannotStart as error:
        raise CannotStart(f"{error}\nInstall its plugin: https://docs.docker.com/compose/install/") from None
    _refuse_older("Docker Compose", version, OLDEST_COMPOSE)


def _refuse_older(program: str, version: str, oldest: tuple[int, int]) -> None:
    """Raise CannotStart for a `version` before `oldest`. Accept one that cannot be read."""
    found = re.search(r"(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < oldest:
        needed = "{}.{}".format(*oldest)
        raise CannotStart(f"error: {program} {version} is too old, {needed} is needed. Update Docker.")


def read_project() -> dict[str, Any]:
    """Return the compose file as Compose reads it, variables replaced."""
    project: dict[str, Any] = json.loads(ask("compose", "config", "--format", "json"))
    return project


def list_containers(*options: str) -> list[dict[str, Any]]:
    """Return what `docker compose ps` says of each container."""
    return [json.loads(line) for line in ask("compose", "ps", *options, "--format", "json").splitlines()]


def _show_failed() -> str:
    """Return the last log lines of every service that is neither well nor done."""
    failed = {container["Service"] for container in list_containers("--all") if not _is_well(container)}
    return "".join(map(show_log, sorted(failed)))


def show_log(*service: str) -> str:
    """Return the last log lines of a service. After `--index` and a number, those of one of its containers."""
    return ask("compose", "logs", "--no-color", "--tail", LOG_LINES, *service) + "\n\n"


def _is_well(container: dict[str, Any]) -> bool:
    """Tell whether a container serves, has done its work, or waits for another that must be well first."""
    state, health = container["State"], container["Health"]
    is_done = state == "exited" and not container["ExitCode"]
    return is_done or state == "created" or (state == "running" and health in {"healthy", ""})
