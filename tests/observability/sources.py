"""What stands in observability/, read once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "observability/prometheus"
ALERTMANAGER = ROOT / "observability/alertmanager/alertmanager.yml"
LOKI = ROOT / "observability/loki/config.yaml"
GRAFANA = ROOT / "observability/grafana"
RUNBOOK = ROOT / "observability/runbook.md"
OBSERVE = ROOT / "docs/observe.md"


JOB: str = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"][0]["job_name"]


def load(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    return dashboard


DASHBOARDS = {load(path)["uid"]: load(path) for path in sorted(GRAFANA.glob("dashboards/*.json"))}


def rules() -> Iterator[dict[str, Any]]:
    for path in sorted(PROMETHEUS.glob("rules/*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]
