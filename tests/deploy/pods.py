"""What each pod keeps: the restricted standard, limits, probes and ports."""

import re
from collections.abc import Iterator

from app import health
from app.record import PROBES
from tests.deploy.manifests import Mapping, containers

IMAGE = re.compile(r".+(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})")
PROBE = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
ROUTES = {getattr(route, "path", "") for route in health.router.routes} & PROBES
SHUTDOWN_S = 10  # docs/operate.md
POD: dict[str, object] = {  # https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext.runAsNonRoot": True,
    "securityContext.seccompProfile.type": "RuntimeDefault",
}
CONTAINER: dict[str, object] = {
    "securityContext.allowPrivilegeEscalation": False,
    "securityContext.readOnlyRootFilesystem": True,
    "securityContext.capabilities.drop": ["ALL"],
}


def check_pod(manifest: Mapping, ports: dict[str, int]) -> Iterator[str]:
    """Find what is wrong with a workload; `ports` are those that the settings name."""
    if not (found := containers(manifest)):
        return
    pod = manifest["spec"]["template"]["spec"]
    yield from check_values(pod, POD)
    yield from check_volumes(pod)
    for container in found:
        yield from check_container(container)
        yield from check_probes(container, manifest["kind"])
    if manifest["kind"] == "Deployment":
        yield from check_end(pod, found[0])
        yield from check_strategy(manifest)
    for container in found:
        if container["name"] == "api":
            yield from check_own_ports(container, ports)
            yield from check_own_probes(container)


def check_values(mapping: Mapping, wanted: dict[str, object]) -> Iterator[str]:
    """Find what is not as it must be, by its path."""
    for path, value in wanted.items():
        found: object = mapping
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found != value:
            yield f"{mapping.place}: {path} must be {str(value).lower() if value in (True, False) else value}"


def check_container(container: Mapping) -> Iterator[str]:
    yield from check_values(container, CONTAINER)
    if not IMAGE.fullmatch(container["image"]):
        yield f"{container.place}: the image needs a tag other than latest, or a digest"
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if resource not in container.get("resources", {}).get(kind, {}):
                yield f"{container.place}: resources.{kind}.{resource} is missing"


def check_probes(container: Mapping, kind: str) -> Iterator[str]:
    wanted = () if kind == "Job" else PROBE if container["name"] == "api" else ("livenessProbe", "readinessProbe")
    for name in wanted:
        if name not in container:
            yield f"{container.place}: {name} is missing"


def check_own_probes(container: Mapping) -> Iterator[str]:
    """Find probes of the API that ask elsewhere than where it answers."""
    for name, path in PROBE.items():
        asked = container.get(name, {}).get("httpGet")
        if asked and asked["path"] not in ROUTES:
            yield f"{asked.place}: {name} asks {asked['path']}, and there is no such route"
        elif asked and asked["path"] != path:
            yield f"{asked.place}: {name} asks {asked['path']} in place of {path}"
        if asked and asked["port"] != "metrics":
            yield f"{asked.place}: {name} asks the port {asked['port']} in place of metrics"


def check_own_ports(container: Mapping, ports: dict[str, int]) -> Iterator[str]:
    for port in container["ports"]:
        if port["containerPort"] != ports.get(port["name"]):
            told = ports.get(port["name"], "none")
            yield f"{port.place}: the port {port['name']} is {port['containerPort']}, by the settings {told}"


def check_volumes(pod: Mapping) -> Iterator[str]:
    for volume in pod.get("volumes", ()):
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"{volume.place}: {volume['name']} has no sizeLimit"


def check_end(pod: Mapping, container: Mapping) -> Iterator[str]:
    """Find a grace period that is shorter than what happens in it."""
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if container["name"] == "api" and not pause:
        yield f"{container.place}: lifecycle.preStop.sleep is missing"
    if pod.get("terminationGracePeriodSeconds", 30) < pause + SHUTDOWN_S:
        yield f"{pod.place}: terminationGracePeriodSeconds is under {pause} s of preStop and {SHUTDOWN_S} s of shutdown"


def check_strategy(manifest: Mapping) -> Iterator[str]:
    strategy = manifest["spec"].get("strategy", {})
    if strategy.get("type") != "Recreate" and strategy.get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield f"{manifest.place}: strategy.rollingUpdate.maxUnavailable must be 0"
