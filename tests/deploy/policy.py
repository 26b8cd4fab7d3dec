"""What holds for the manifests of deploy/kubernetes. A fault is a line: `file:line: what is wrong`."""

from collections.abc import Iterator
from pathlib import Path

from tests.deploy.manifests import OVERLAYS, WORKLOADS, Kustomization, Mapping, labels, selects
from tests.deploy.pods import IMAGE, check_pod
from tests.deploy.variables import check_reach, check_together, check_variable, check_variables, values


def find_faults(root: Path) -> list[str]:
    """Return the faults of all overlays below `root`, each once."""
    faults = [
        fault for name in OVERLAYS for fault in check_overlay(Kustomization(root / "deploy/kubernetes/overlays" / name))
    ]
    return [fault.replace(f"{root}/", "") for fault in dict.fromkeys(faults)]


def check_overlay(overlay: Kustomization) -> Iterator[str]:
    parts = list(overlay.parts())
    objects = [manifest for part in parts for manifest in part.objects()]
    for part in parts:
        yield from check_kustomization(part)
    for manifest in [*objects, *(change for part in parts for change in part.changes())]:
        yield from check_variables(manifest)
    yield from check_together(overlay)
    yield from check_objects(objects, ports(overlay))


def check_kustomization(part: Kustomization) -> Iterator[str]:
    """Find variables, images and secrets that a kustomization should not have."""
    for variable in part.variables():
        yield from check_variable(*variable)
        yield from check_reach(variable)
    for image in part.body.get("images", ()):
        if not IMAGE.fullmatch(f"{image['name']}:{image.get('newTag', 'latest')}") and "digest" not in image:
            yield f"{image.place}: the image needs a tag other than latest, or a digest"
    if "secretGenerator" in part.body:
        yield f"{part.body.place}: a secretGenerator writes secrets out"


def ports(overlay: Kustomization) -> dict[str, int]:
    """The ports that the settings name, by their names in the manifests."""
    found = values(overlay)
    names = {"http": "PORT", "metrics": "METRICS_PORT"}
    return {name: int(found[variable].value) for name, variable in names.items() if variable in found}


def check_objects(objects: list[Mapping], known: dict[str, int]) -> Iterator[str]:
    """Find what is wrong with objects by themselves, and with one another; `known` are the ports of the settings."""
    workloads = [manifest for manifest in objects if manifest["kind"] in WORKLOADS]
    for manifest in objects:
        yield from check_pod(manifest, known)
        if manifest["kind"] == "Secret":
            yield f"{manifest.place}: a Secret is written out"
        elif manifest["kind"] == "PodDisruptionBudget":
            yield from check_budget(manifest)
        elif manifest["kind"] == "Service":
            yield from check_service(manifest, workloads)
        elif manifest["kind"] == "NetworkPolicy":
            yield from check_network(manifest, workloads)
        elif manifest["kind"] == "ServiceMonitor":
            yield from check_monitor(manifest, objects)


def check_budget(budget: Mapping) -> Iterator[str]:
    """Find a budget that may never let a pod go."""
    if not budget["spec"].get("maxUnavailable"):
        yield f"{budget.place}: maxUnavailable must be 1 or more, or a drain may wait for ever"


def open_ports(selector: dict[str, str], workloads: list[Mapping]) -> list[Mapping]:
    """The ports of the pods that a selector chooses."""
    chosen = [manifest for manifest in workloads if selects(selector, labels(manifest))]
    pods = [manifest["spec"]["template"]["spec"] for manifest in chosen]
    return [port for pod in pods for container in pod["containers"] for port in container.get("ports", ())]


def check_service(service: Mapping, workloads: list[Mapping]) -> Iterator[str]:
    names = {port["name"] for port in open_ports(service["spec"]["selector"], workloads)}
    for port in service["spec"]["ports"]:
        if port["targetPort"] not in names:
            yield f"{port.place}: no container has a port {port['targetPort']}"


def check_network(policy: Mapping, workloads: list[Mapping]) -> Iterator[str]:
    """Find ports that are let in and that nobody listens on, and rules that let everybody in or out."""
    numbers = {port["containerPort"] for port in open_ports(policy["spec"]["podSelector"]["matchLabels"], workloads)}
    for way, end in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(way, ()):
            if not rule.get(end) or not rule.get("ports"):
                yield f"{rule.place}: name who is let through ({end}), and the ports"
    for rule in policy["spec"].get("ingress", ()):
        for port in rule.get("ports", ()):
            if port["port"] not in numbers:
                yield f"{port.place}: nobody listens on {port['port']}"


def check_monitor(monitor: Mapping, objects: list[Mapping]) -> Iterator[str]:
    selector = monitor["spec"]["selector"]["matchLabels"]
    services = [manifest for manifest in objects if manifest["kind"] == "Service"]
    chosen = [service for service in services if selects(selector, service["metadata"].get("labels", {}))]
    names = {port["name"] for service in chosen for port in service["spec"]["ports"]}
    for endpoint in monitor["spec"]["endpoints"]:
        if endpoint["port"] not in names:
            yield f"{endpoint.place}: no Service that is selected has a port {endpoint['port']}"
