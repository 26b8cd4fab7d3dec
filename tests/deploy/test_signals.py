"""What watches the deployment is that of observability/, and the autoscaler asks for what there is."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, QueuePool

from app.db.database import Database
from app.settings import Settings
from devtools.manifests import MANIFEST, RULES, make_rules
from tests.copies import copy_project
from tests.deploy.manifests import ROOT, Kustomization, Mapping
from tests.deploy.variables import values
from tests.docs.pages import blocks
from tests.observability.sources import JOB, PROMETHEUS
from tests.process import needed
from tests.support import Api

MONITORING = ROOT / "deploy/kubernetes/monitoring"
OVERLAYS = ROOT / "deploy/kubernetes/overlays"
PRODUCTION = Kustomization(OVERLAYS / "production")
POOLED = Kustomization(OVERLAYS / "pgbouncer")
MAX_CONNECTIONS = 97  # PostgreSQL's default is 100, of which three are a superuser's
OWN_CONNECTIONS = 2  # of a process beside its pool: for its readiness, and for the plans of slow statements


def one(kustomization: Kustomization, kind: str) -> Mapping:
    """The only object of a kind, without patches."""
    (found,) = [body for part in kustomization.parts() for body in part.objects() if body["kind"] == kind]
    return found


@pytest.fixture(scope="module")
def custom() -> dict[str, Any]:
    """The adapter's rule."""
    (rule,) = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    return dict(rule)


def test_the_rules_are_those_of_prometheus() -> None:
    """`python -m devtools manifests` has written what the files say now."""
    assert MANIFEST.read_text() == make_rules(), "run .venv/bin/python -m devtools manifests"
    written = [body["spec"] for body in yaml.safe_load_all(MANIFEST.read_text())]
    assert written == [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]


def test_they_are_written_anew(tmp_path: Path) -> None:
    """By the command of docs/kubernetes.md, in a copy that lacks them."""
    (command,) = blocks("docs/kubernetes.md", __file__)
    copy_project(tmp_path)
    for folder in ("devtools", "observability"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    written = tmp_path / MANIFEST.relative_to(ROOT)
    written.parent.mkdir(parents=True)
    run = shlex.split(command.replace(".venv/bin/python", shlex.quote(sys.executable)))
    subprocess.run(run, cwd=tmp_path, check=True, timeout=60)
    assert written.read_text() == MANIFEST.read_text()


def test_every_dashboard_comes_along() -> None:
    """A new one has to be named."""
    named = set(Kustomization(ROOT / "observability/grafana").generated("files"))
    assert named == set((ROOT / "observability/grafana/dashboards").glob("*.json"))


def test_it_is_scraped_as_elsewhere() -> None:
    """The Service's name is the job's, on which the rules stand; as often, and as long."""
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"][0]
    (endpoint,) = one(PRODUCTION, "ServiceMonitor")["spec"]["endpoints"]
    assert one(PRODUCTION, "Service")["metadata"]["name"] == JOB
    assert (endpoint["interval"], endpoint["scrapeTimeout"]) == (scraped["scrape_interval"], scraped["scrape_timeout"])


def test_the_autoscaler_asks_for_what_there_is(api: Api, custom: dict[str, Any]) -> None:
    """The API exposes the metric, and the adapter knows it."""
    (metric,) = [one["pods"] for one in metrics() if one["type"] == "Pods"]
    name = metric["metric"]["name"]
    with api.client() as client:
        assert f"\n{name} " in client.get("/metrics").text
    assert custom["seriesQuery"].startswith(f"{name}{{")
    assert int(metric["target"]["averageValue"]) < int(values(PRODUCTION)["DATABASE_POOL_SIZE"].value)


def test_the_adapter_has_an_address() -> None:
    """The chart's own leads nowhere in most clusters, and that shows only in the autoscaler."""
    address = yaml.safe_load((MONITORING / "prometheus-adapter.yaml").read_text())["prometheus"]
    assert address == {"url": "http://prometheus-operated.monitoring.svc", "port": 9090}


def test_the_migration_has_a_time_out_of_its_own() -> None:
    """By its default; settings.env does not reach it."""
    (migrate,) = one(PRODUCTION, "Job")["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable.get("value") for variable in migrate["env"]}
    assert given["MIGRATE_TIMEOUT_S"] == f"{Settings.model_fields['migrate_timeout_s'].default:g}"


def metrics() -> Iterator[dict[str, Any]]:
    scaler = one(PRODUCTION, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == one(PRODUCTION, "Deployment")["metadata"]["name"]
    yield from scaler["metrics"]


def test_prometheus_takes_the_adapters_query(custom: dict[str, Any], tmp_path: Path) -> None:
    """Once the adapter has filled it in."""
    query = custom["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.Series>>", "http_requests_in_progress")
    rule = {"record": "asked", "expr": query.replace("<<.LabelMatchers>>", 'namespace="a",pod=~"b|c"')}
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": [rule]}]}))
    subprocess.run([needed("promtool"), "check", "rules", file], check=True, capture_output=True)


def connections(replicas: int) -> int:
    """How many connections so many replicas open, with the one more that a rollout starts and the one that leaves."""
    return (replicas + 1 + 1) * (int(values(PRODUCTION)["DATABASE_POOL_SIZE"].value) + OWN_CONNECTIONS)


def test_a_process_opens_no_more() -> None:
    """All pools of its database, full."""
    database = Database("postgresql+psycopg2://nowhere/", 8, 1)
    engines = [engine for engine in vars(database).values() if isinstance(engine, Engine)]
    pools = {engine.pool for engine in engines}
    assert sum(pool.size() for pool in pools if isinstance(pool, QueuePool)) == 8 + OWN_CONNECTIONS


def test_only_one_replica_leaves_at_a_time() -> None:
    """The next one begins to once the one before is gone for sure."""
    spec = one(PRODUCTION, "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"]["maxSurge"] == 1
    assert spec["minReadySeconds"] >= spec["template"]["spec"]["terminationGracePeriodSeconds"]


def test_all_replicas_find_connections() -> None:
    """PostgreSQL has as many by default, or PgBouncer lets as many in and opens fewer itself."""
    assert connections(one(PRODUCTION, "HorizontalPodAutoscaler")["spec"]["maxReplicas"]) < MAX_CONNECTIONS
    (most,) = [body["spec"]["maxReplicas"] for body in POOLED.changes() if body["kind"] == "HorizontalPodAutoscaler"]
    pooler = configuration()
    assert pooler["pool_mode"] == "transaction"
    assert connections(most) < int(pooler["max_client_conn"])
    (deployed,) = [body for body in POOLED.objects() if body["kind"] == "Deployment"]
    # In a rollout the old ones wait for their clients beside as many new ones.
    assert 2 * deployed["spec"]["replicas"] * int(pooler["default_pool_size"]) < MAX_CONNECTIONS


def configuration() -> dict[str, str]:
    parser = ConfigParser()
    parser.read(OVERLAYS / "pgbouncer/pgbouncer.ini")
    return dict(parser["pgbouncer"])


def test_the_shutdown_is_the_longest_that_there_is() -> None:
    """The process itself waits for the balancers as long as it may."""
    (bound,) = [part.le for part in Settings.model_fields["shutdown_delay_s"].metadata if hasattr(part, "le")]
    assert values(PRODUCTION)["SHUTDOWN_DELAY_S"].value == str(bound)
