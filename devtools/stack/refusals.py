"""What would break the stack after it has begun to start, found before: a line for each, which says what to change."""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from devtools.stack.docker import ask, list_containers

PORTS = {
    "proxy": "API_PORT",
    "grafana": "GRAFANA_PORT",
    "jaeger": "JAEGER_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "alertmanager": "ALERTMANAGER_PORT",
    "loki": "LOKI_PORT",
}
GENERATED = "`openssl rand -base64 24` prints one that is"
ONE_LINE = (re.compile(r"[^\x00-\x1f\x7f]+"), "must be of one line and without control characters")
# The exporter's driver sends others as they are, PostgreSQL normalizes them first (SASLprep).
ASCII = (re.compile(r"[ -~]+"), "must be of printable ASCII")
# Grafana puts variables in the place of these, Compose doubles each $.
NO_VARIABLE = (
    re.compile(r"(?!.*(\$+(__\w+)?\{|%\())[^\x00-\x1f\x7f]+"),
    "must be of one line, without ${, $__name{ and %(",
)
PASSWORDS = {
    "POSTGRES_PASSWORD": ("postgres", "POSTGRES_PASSWORD", ONE_LINE),
    "DATABASE_PASSWORD": ("logins", "DATABASE_PASSWORD", ONE_LINE),
    "EXPORTER_PASSWORD": ("logins", "EXPORTER_PASSWORD", ASCII),
    "GRAFANA_PASSWORD": ("grafana", "GF_SECURITY_ADMIN_PASSWORD", NO_VARIABLE),
}


def find_refusals(project: dict[str, Any], ports: dict[str, int]) -> list[str]:
    """Return why the stack cannot start as it is configured. No password is in it."""
    return [*_find_passwords(project["services"]), *_find_ports(ports), *_find_networks(project)]


def _find_passwords(services: dict[str, Any]) -> Iterator[str]:
    for variable, (service, name, (allowed, rule)) in PASSWORDS.items():
        password = services.get(service, {}).get("environment", {}).get(name)
        if password and not allowed.fullmatch(password):
            yield f"{variable}: {rule}; {GENERATED}."


def _find_ports(ports: dict[str, int]) -> Iterator[str]:
    """A port is not taken where the stack's own container listens."""
    running = list_containers()
    own = {publisher["PublishedPort"] for container in running for publisher in container.get("Publishers") or ()}
    for name, port in ports.items():
        if port not in own and _is_in_use(port):
            yield f"port {port} ({name}) is taken: {PORTS[name]}=<another> in .env moves it."


def _is_in_use(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _find_networks(project: dict[str, Any]) -> Iterator[str]:
    """The stack's network must be free, since the API trusts all of it."""
    for network in project.get("networks", {}).values():
        for pool in network.get("ipam", {}).get("config", ()):
            yield from _find_overlaps(network["name"], pool["subnet"])


def _find_overlaps(own: str, subnet: str) -> Iterator[str]:
    try:
        wanted = ip_network(subnet)
    except ValueError:
        yield f"STACK_SUBNET: must be a network, such as 10.213.78.0/24, not {subnet}."
        return
    for name, taken in _list_networks():
        if name == own and taken != [subnet]:  # Compose would first stop all, and then fail to remove it
            yield f"the stack runs in {' '.join(taken)}, not in {subnet}: `make stack-down` first, it keeps the data."
        elif name != own and any(_overlap(wanted, other) for other in taken):
            yield f"network {subnet} is taken by {name}: STACK_SUBNET=<another> in .env moves it."


def _list_networks() -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the subnets of each of Docker's networks."""
    pools = "{{.Name}}{{range .IPAM.Config}} {{.Subnet}}{{end}}"
    if ids := ask("network", "ls", "--quiet").split():
        for line in ask("network", "inspect", "--format", pools, *ids).splitlines():
            name, *taken = line.split()
            yield name, taken


def _overlap(wanted: Any, other: str) -> bool:
    found = ip_network(other)
    return found.version == wanted.version and bool(wanted.overlaps(found))
