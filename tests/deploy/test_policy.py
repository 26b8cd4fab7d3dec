"""The manifests keep our policy, and what breaks it is named with its file and line."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deploy.manifests import OVERLAYS, ROOT, Kustomization
from tests.deploy.policy import find_faults

DEPLOY = "deploy/kubernetes"
DEPLOYMENT = f"{DEPLOY}/base/deployment.yaml"
SETTINGS = f"{DEPLOY}/base/settings.env"
PRODUCTION = f"{DEPLOY}/overlays/production"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in (DEPLOY, "observability/grafana"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_there_is_no_fault() -> None:
    """Nobody has to wait for the cluster to say so."""
    assert find_faults(ROOT) == []


class Bad(NamedTuple):
    """What is written in place of `old` in a file, what is said of it, and what stands in the line that is named."""

    file: str
    old: str
    new: str
    said: str
    at: str = ""  # `new`, unless something is missing


BAD = [
    Bad(SETTINGS, "LOG_FORMAT=json", "LOG_FROMAT=json", "LOG_FROMAT is no setting of this application"),
    Bad(SETTINGS, "LOG_FORMAT=json", "LOG_FORMAT=jason", "LOG_FORMAT: Input should be 'auto', 'json' or 'console'"),
    Bad(SETTINGS, "METRICS_PORT=9464", "METRICS_PORT=8000", "METRICS_PORT must not be PORT: everybody reaches that"),
    Bad(SETTINGS, "LOG_FORMAT=json", f"METRICS_TOKEN={'a' * 16}", "METRICS_TOKEN is a secret: take it from a Secret"),
    Bad(SETTINGS, "LOG_FORMAT=json", "MIGRATE_TIMEOUT_S=600", "MIGRATE_TIMEOUT_S does not reach the migration"),
    Bad(f"{PRODUCTION}/settings.env", "=https://a", "=http://a", "BETTER_AUTH_URL must be https in production"),
    Bad(f"{PRODUCTION}/deployment.yaml", "RATE_LIMIT_STORAGE_URI\n", "REDIS\n", "REDIS is no setting"),
    Bad(f"{PRODUCTION}/kustomization.yaml", "newTag: 0.1.0", "newTag: latest", "needs a tag other than latest"),
    Bad(f"{PRODUCTION}/kustomization.yaml", "patches:", "secretGenerator:", "a secretGenerator writes secrets", "apiV"),
    Bad(DEPLOYMENT, "key: DATABASE_URL", "key: URL", "has another key in the Secret, URL", "- name: DATABASE_URL"),
    Bad(DEPLOYMENT, "configMapRef", "secretRef", "name each variable of a Secret"),
    Bad(DEPLOYMENT, "containerPort: 9464", "containerPort: 9090", "the port metrics is 9090, by the settings 9464"),
    Bad(DEPLOYMENT, "livenessProbe:", "lifenessProbe:", "livenessProbe is missing", "- name: api"),
    Bad(DEPLOYMENT, "/health/ready", "/healthz", "readinessProbe asks /healthz, and there is no such route"),
    Bad(DEPLOYMENT, "/health/live", "/health/ready", "startupProbe asks /health/ready in place of /health/live"),
    Bad(DEPLOYMENT, "live, port: metrics", "live, port: http", "startupProbe asks the port http in place of metrics"),
    Bad(DEPLOYMENT, "image: task-api:local", "image: task-api", "needs a tag other than latest", "- name: api"),
    Bad(
        DEPLOYMENT, 'limits: {cpu: "2", m', 'limits: {cpu: "2", n', "resources.limits.memory is missing", "- name: api"
    ),
    Bad(DEPLOYMENT, "Filesystem: true", "Filesystem: false", "readOnlyRootFilesystem must be true", "- name: api"),
    Bad(DEPLOYMENT, "NonRoot: true", "NonRoot: false", "securityContext.runAsNonRoot must be true", "automount"),
    Bad(DEPLOYMENT, "drop: [ALL]", "drop: [KILL]", "capabilities.drop must be ['ALL']", "- name: api"),
    Bad(DEPLOYMENT, ", sizeLimit: 64Mi", "", "tmp has no sizeLimit", "- name: tmp"),
    Bad(DEPLOYMENT, "preStop:", "postStart:", "lifecycle.preStop.sleep is missing", "- name: api"),
    Bad(
        DEPLOYMENT,
        "PeriodSeconds: 20",
        "PeriodSeconds: 14",
        "terminationGracePeriodSeconds is under 5 s of preStop",
        "automount",
    ),
    Bad(DEPLOYMENT, "maxUnavailable: 0", "maxUnavailable: 1", "rollingUpdate.maxUnavailable must be 0", "apiVersion"),
    Bad(f"{DEPLOY}/base/migration.yaml", "value: json", "value: jason", "LOG_FORMAT: Input should be 'auto'"),
    Bad(f"{DEPLOY}/base/disruption-budget.yaml", "maxU", "minA", "a drain may wait for ever", "apiVersion"),
    Bad(f"{DEPLOY}/base/service.yaml", "targetPort: http", "targetPort: web", "no container has a port web"),
    Bad(f"{DEPLOY}/base/network-policies.yaml", "port: 8000}", "port: 80}", "nobody listens on 80"),
    Bad(
        f"{DEPLOY}/base/network-policies.yaml", "ports: [{port: 443}]", "", "who is let through (to)", "- to: # the key"
    ),
    Bad(f"{DEPLOY}/monitoring/service-monitor.yaml", "- port: metrics", "- port: web", "selected has a port web"),
    Bad(f"{DEPLOY}/base/namespace.yaml", "kind: Namespace", "kind: Secret", "a Secret is written out", "apiVersion"),
]


@pytest.mark.parametrize("bad", BAD, ids=[f"{bad.file}: {bad.new}" for bad in BAD])
def test_a_fault_is_named_with_its_place(copy: Path, bad: Bad) -> None:
    """By the file and the line of what is wrong, or of where something is missing."""
    path = copy / bad.file
    assert bad.old in path.read_text()
    path.write_text(path.read_text().replace(bad.old, bad.new, 1))
    line = next(n for n, text in enumerate(path.read_text().split("\n"), 1) if (bad.at or bad.new.strip()) in text)
    faults = find_faults(copy)
    assert any(fault.startswith(f"{bad.file}:{line}: ") and bad.said in fault for fault in faults), faults


def test_what_is_missing_is_named_with_the_overlay(copy: Path) -> None:
    """There is no line for it."""
    settings = copy / f"{PRODUCTION}/settings.env"
    settings.write_text(settings.read_text().replace("BETTER_AUTH_URL=", "JWT_ISSUER="))
    wanted = "kustomization.yaml:2: BETTER_AUTH_URL or BETTER_AUTH_SECRET is required in production"
    assert f"{PRODUCTION}/{wanted}" in find_faults(copy)


def test_no_file_is_forgotten() -> None:
    """Each belongs to an overlay, but for the values of the adapter's chart."""
    read = set(used())
    files = {path for path in (ROOT / DEPLOY).rglob("*") if path.is_file()}
    assert {str(path.relative_to(ROOT)) for path in files - read} == {f"{DEPLOY}/monitoring/prometheus-adapter.yaml"}


def used() -> Iterator[Path]:
    for name in OVERLAYS:
        for part in Kustomization(ROOT / DEPLOY / "overlays" / name).parts():
            yield part.folder / "kustomization.yaml"
            yield from (*part.files, *part.patches, *part.generated("envs"), *part.generated("files"))


OFFERED = {  # by comments and by docs/kubernetes.md
    "addresses": (f"{DEPLOY}/base/network-policies.yaml", "# - ipBlock", "- ipBlock", 4),
    "addresses of PgBouncer": (f"{DEPLOY}/overlays/pgbouncer/network-policies.yaml", "# - ipBlock", "- ipBlock", 1),
    "a digest": (f"{PRODUCTION}/kustomization.yaml", "newTag: 0.1.0", f"digest: sha256:{'0' * 64}", 1),
    "IPv6": (f"{PRODUCTION}/settings.env", "BETTER_AUTH_URL=", "HOST=::\nBETTER_AUTH_URL=", 1),
}


@pytest.mark.parametrize("name", OFFERED)
def test_what_is_offered_is_no_fault(copy: Path, name: str) -> None:
    """Whoever takes a comment's marks away, or writes what the page says, has a good manifest."""
    file, old, new, times = OFFERED[name]
    text = (copy / file).read_text()
    assert text.count(old) == times
    (copy / file).write_text(text.replace(old, new))
    assert find_faults(copy) == []
