"""What kustomize makes of the overlays: objects that Kubernetes takes, by its schemas, and that keep our policy."""

import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.deploy.manifests import OVERLAYS, ROOT, Mapping, load
from tests.deploy.policy import check_objects
from tests.process import needed

SCHEMAS = Path(__file__).parent / "schemas"  # of the objects that are the Prometheus Operator's
OLDEST = "1.30"  # docs/kubernetes.md
PORTS = {"http": 8000, "metrics": 9464}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kustomize() -> str:
    return needed("kustomize")


def build(kustomize: str, overlay: str, folder: Path) -> list[Mapping]:
    command = [kustomize, "build", str(ROOT / "deploy/kubernetes/overlays" / overlay)]
    file = folder / f"{overlay}.yaml"
    file.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return load(file)


def validate(body: dict[str, Any], version: str) -> None:
    """Raise if Kubernetes would not take the object, or would leave a field out."""
    own = SCHEMAS / f"{body['kind'].lower()}.json"
    if own.exists():
        jsonschema.validate(body, json.loads(own.read_text()))
    else:
        kubernetes_validate.validate(body, version, strict=True)


def named(objects: list[Mapping], kind: str, prefix: str = "") -> list[Mapping]:
    return [one for one in objects if one["kind"] == kind and one["metadata"]["name"].startswith(prefix)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_it(kustomize: str, overlay: str, tmp_path: Path) -> None:
    """The oldest one that the page names, and the newest one."""
    objects = build(kustomize, overlay, tmp_path)
    assert len(objects) > 10
    for version in (OLDEST, kubernetes_validate.latest_version()):
        for body in objects:
            validate(body, version)


@pytest.mark.parametrize("kind", ["Deployment", "ServiceMonitor", "PrometheusRule"])
def test_what_it_would_not_take_is_found(kustomize: str, kind: str, tmp_path: Path) -> None:
    """A field that is not there, in objects of its own and in those of the operator."""
    body = named(build(kustomize, "production", tmp_path), kind)[0]
    wrong = {**body, "spec": {**body["spec"], "unknown": 1}}
    with pytest.raises(jsonschema.ValidationError, match="unknown"):
        validate(wrong, OLDEST)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_patches_keep_the_policy(kustomize: str, overlay: str, tmp_path: Path) -> None:
    """What an overlay changes is as good as what it builds upon, and all of it is in one namespace."""
    objects = build(kustomize, overlay, tmp_path)
    assert list(check_objects(objects, PORTS)) == []
    spaces = {body["metadata"].get("namespace") for body in objects if body["kind"] != "Namespace"}
    assert spaces == {named(objects, "Namespace")[0]["metadata"]["name"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_argo_keeps_the_settings_of_old_pods(kustomize: str, overlay: str, tmp_path: Path) -> None:
    """An old pod that starts again in a rollout needs the ConfigMap of its release; `merge` must not lose it."""
    (settings,) = named(build(kustomize, overlay, tmp_path), "ConfigMap", "task-api-settings-")
    kept = {"sync-options": "Prune=false", "compare-options": "IgnoreExtraneous"}
    assert {f"argocd.argoproj.io/{name}": value for name, value in kept.items()}.items() <= (
        settings["metadata"]["annotations"].items()
    )


def test_dashboards_are_the_very_files(kustomize: str, tmp_path: Path) -> None:
    """Each of them, byte for byte, where a sidecar finds it."""
    maps = [
        one
        for one in named(build(kustomize, "production", tmp_path), "ConfigMap")
        if one["metadata"].get("labels") == {"grafana_dashboard": "1"}
    ]
    texts = [text for one in maps for text in one["data"].values()]
    files = [path.read_text() for path in (ROOT / "observability/grafana/dashboards").glob("*.json")]
    assert sorted(texts) == sorted(files)


def test_poolers_are_gone_around(kustomize: str, tmp_path: Path) -> None:
    """With PgBouncer or Neon the migration has an address of its own; without, one address is enough."""
    asked = {}
    for overlay in OVERLAYS:
        (job,) = named(build(kustomize, overlay, tmp_path), "Job")
        (container,) = job["spec"]["template"]["spec"]["containers"]
        asked[overlay] = "DATABASE_MIGRATION_URL" in {variable["name"] for variable in container["env"]}
    assert asked == {"local": False, "neon": True, "pgbouncer": True, "production": False}


def test_rules_survive(kustomize: str, tmp_path: Path) -> None:
    """Anchors and templates come out as they mean."""
    rules = named(build(kustomize, "production", tmp_path), "PrometheusRule")
    groups = [group for rule in rules for group in rule["spec"]["groups"]]
    files = sorted((ROOT / "observability/prometheus/rules").glob("*.yml"))
    assert groups == [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
