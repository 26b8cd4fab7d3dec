"""Each incident on real servers, in seconds where the rules say minutes; and what is none."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from devtools.drill.catalogue import INCIDENTS
from devtools.drill.incident import Incident
from devtools.drill.target import LOSE_HOST
from tests.drills.judge import Seen, judge, observed
from tests.drills.servers import EXPORTER, Servers
from tests.observability.sources import rules
from tests.process import needed
from tests.support import wait_until

EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
QUIET_S = 25


def asks_exporter(incident: Incident) -> bool:
    """Whether the alert, or a step, is of PostgreSQL's own metrics."""
    queries = [EXPRESSIONS[incident.alert], *(step.query for step in incident.steps), *incident.needs]
    return any(re.search(r"\bpg_(?!blocking)|postgres-exporter", query) for query in queries)


@pytest.mark.slow
@pytest.mark.parametrize("name", INCIDENTS)
def test_an_incident_is_alerted_and_led_to_its_cause(
    name: str, seen: dict[str, Seen], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Its alert fires, none misleads, the cause shows by its value, and the runbook's own queries lead there."""
    if asks_exporter(INCIDENTS[name]):
        needed(EXPORTER)
    servers = request.getfixturevalue("servers_by_name" if LOSE_HOST in INCIDENTS[name].needs else "servers")
    seen[name] = judge(INCIDENTS[name], servers, tmp_path)


@pytest.mark.slow
def test_ordinary_traffic_a_deploy_and_a_backup_raise_nothing(servers: Servers, tmp_path: Path) -> None:
    """Users ask, right and wrong; meanwhile the database is saved, and one after the other a new revision serves."""
    servers.start()
    with observed(servers, servers.target(), tmp_path) as (running, alarms):
        started = float(running.query("time()")[1])
        back_up(servers, tmp_path / "tasks.dump")
        for _ in range(2):
            servers.start(REVISION="next")
            servers.stop()
        wait_until(lambda: float(running.query("time()")[1]) - started > QUIET_S, QUIET_S + 10)
        assert {one["metric"]["revision"] for one in running.query("task_api_build_info")} == {"next"}
    servers.stop()
    alarms.refuse_others()
    assert (tmp_path / "tasks.dump").stat().st_size


def back_up(servers: Servers, file: Path) -> None:
    """Save the database as docs/operate.md says."""
    url = servers.database.url("tasks").replace("+psycopg2", "")
    command = [str(servers.programs / "pg_dump"), "--enable-row-security", "--format=custom", f"--file={file}", url]
    subprocess.run(command, env=os.environ | {"PGOPTIONS": "-c app.every_row=on"}, check=True, timeout=60)
