"""The rules of observability/ as the Prometheus Operator takes them: kustomize cannot put a file into an object."""

from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[1]
RULES = ROOT / "observability/prometheus/rules"
MANIFEST = ROOT / "deploy/kubernetes/monitoring/rules.yaml"
HEAD = "# Written by `python -m devtools manifests` from observability/prometheus/rules: change those.\n"
OBJECT = """\
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: task-api-{name}
  labels: {{app.kubernetes.io/name: task-api}}
spec:
{rules}"""


def make_rules() -> str:
    """Return an object for each file, which holds the text of the file."""
    objects = [
        OBJECT.format(name=path.stem, rules=indent(path.read_text(), "  ")) for path in sorted(RULES.glob("*.yml"))
    ]
    return HEAD + "".join(objects)
