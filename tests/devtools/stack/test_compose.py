"""The stack's files pass the programs that will read them, and keep what the README promises of them."""

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from app.settings import PUBLIC_SECRETS
from devtools.client import STACK_SECRET

ROOT = Path(__file__).parents[3]
BIN = Path(sysconfig.get_path("scripts"))
ONCE = {"logins", "migrate"}


def run(*command: str | Path, **environ: str) -> str:
    """Run a program in the checkout, with none of this process's settings."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environ
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compose(**environ: str) -> dict[str, Any]:
    """What Compose makes of the file. No .env is read."""
    command = ("config", "--format", "json")
    services: dict[str, Any] = json.loads(run(BIN / "docker-compose", "--env-file", os.devnull, *command, **environ))
    return services


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def test_the_stack_needs_no_env_file(services: dict[str, Any]) -> None:
    """Compose reads the file without a warning's worth of variables, and every service of the design is in it."""
    wanted = {"postgres", "migrate", "api", "redis", "prometheus", "grafana", "jaeger", "postgres-exporter", "proxy"}
    assert wanted | {"alertmanager", "loki"} <= services.keys()


def test_every_image_is_pinned(services: dict[str, Any]) -> None:
    """Each image but our own names a version of three parts or two."""
    images = {service["image"] for service in services.values()} - {services["api"]["image"]}
    assert [image for image in images if not re.search(r":v?\d+\.\d+(\.\d+)?(-\w+)?$", image)] == []


def test_ports_are_for_this_machine_alone(services: dict[str, Any]) -> None:
    """What is published listens on 127.0.0.1, and the API itself is not, so that it can be scaled."""
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert {port["published"] for port in ports} == {"8000", "3000", "3100", "9090", "9093", "16686"}
    assert "ports" not in services["api"]
    assert not any("container_name" in service for service in services.values())


def test_every_service_is_watched_bounded_and_restarted(services: dict[str, Any]) -> None:
    """Each has a memory limit and a restart policy, and a health check unless it runs once; waits are for a verdict."""
    for name, service in services.items():
        assert int(service["mem_limit"]) > 0, name
        assert int(service["pids_limit"]) > 0, name
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        assert name in ONCE or name == "api" or service["healthcheck"]["test"], name
        conditions = {dependency["condition"] for dependency in service.get("depends_on", {}).values()}
        assert conditions <= {"service_healthy", "service_completed_successfully"}, name
    assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text()


def test_two_copies_on_one_machine_share_nothing() -> None:
    """Containers, volumes, network and image are named by the folder, or by COMPOSE_PROJECT_NAME."""
    names = []
    for project in ("one", "two"):
        file = compose(COMPOSE_PROJECT_NAME=project)
        parts = [*file["volumes"].values(), *file["networks"].values(), file]
        images = {file["services"][name]["image"] for name in ("api", "migrate")}
        names.append({part["name"] for part in parts} | images)
    assert names[0].isdisjoint(names[1])
    assert compose()["name"] == re.sub(r"[^-_a-z0-9]", "", ROOT.name.lower())


@pytest.mark.parametrize("environ", [{}, {"STACK_SUBNET": "10.9.8.0/24"}])
def test_the_api_believes_the_network_of_the_stack_alone(environ: dict[str, str]) -> None:
    """Who the proxy says a client is counts from there only, whatever networks Docker gives to others."""
    file = compose(**environ)
    (network,) = file["networks"].values()
    (pool,) = network["ipam"]["config"]
    assert file["services"]["api"]["environment"]["FORWARDED_ALLOW_IPS"] == pool["subnet"]


def test_the_proxy_notices_before_a_replica_closes(services: dict[str, Any]) -> None:
    """The delay of a shutdown is longer than the checks that must fail, and Docker waits for the rest."""
    text = (ROOT / "observability/proxy/haproxy.cfg").read_text()
    every, times = map(int, re.findall(r"check inter (\d+)s fall (\d+)", text)[0])
    assert int(services["api"]["environment"]["SHUTDOWN_DELAY_S"]) > every * times
    assert services["api"]["stop_grace_period"] == "15s"


def test_the_api_can_write_nothing(services: dict[str, Any]) -> None:
    """It runs on a read-only root, without capabilities and as a user of its own."""
    api = services["api"]
    assert (api["read_only"], api["cap_drop"]) == (True, ["ALL"])
    assert api["tmpfs"] == ["/tmp:size=64m"]  # noqa: S108  what is written there counts as memory
    assert re.search(r"^USER 10001:10001$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_password_of_the_superuser_stays_with_the_database() -> None:
    """What would undo row-level security reaches neither the API nor what watches it."""
    services = compose(POSTGRES_PASSWORD="for-two-alone", DATABASE_PASSWORD="of-the-app")["services"]
    holders = {name for name, service in services.items() if "for-two-alone" in json.dumps(service)}
    assert holders == {"postgres", "logins"}
    assert "of-the-app" not in services["api"]["environment"]["DATABASE_URL"]


def test_the_threshold_of_slow_is_one_variable() -> None:
    """SLOW_QUERY_MS reaches the login, whose plans it asks for, and the API alike."""
    services = compose(SLOW_QUERY_MS="42")["services"]
    assert services["logins"]["environment"]["SLOW_QUERY_MS"] == "42"
    assert services["api"]["environment"]["SLOW_QUERY_MS"] == "42"


def test_production_refuses_the_secret_of_the_stack(services: dict[str, Any]) -> None:
    """The secret that the stack starts with, and the tools know, is one that ENVIRONMENT=production refuses."""
    assert services["api"]["environment"]["BETTER_AUTH_SECRET"] == STACK_SECRET
    assert STACK_SECRET in PUBLIC_SECRETS


def test_the_secret_of_the_tokens_is_the_apis_alone(services: dict[str, Any]) -> None:
    """A migration does without."""
    holders = {name for name, service in services.items() if "BETTER_AUTH_SECRET" in service.get("environment", ())}
    assert holders == {"api"}


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    """No path of the checkout that a service mounts is missing: Docker would make an empty folder of it."""
    volumes = [volume for service in services.values() for volume in service.get("volumes", ())]
    missing = [
        volume["source"] for volume in volumes if volume["type"] == "bind" and not Path(volume["source"]).exists()
    ]
    assert missing == []


def test_grafana_opens_with_a_dashboard_that_is_there(services: dict[str, Any]) -> None:
    """Its first page is a file of the folder that is mounted."""
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    sources = {Path(volume["target"]): Path(volume["source"]) for volume in services["grafana"]["volumes"]}
    assert (sources[home.parent] / home.name).is_file()


def test_links_of_alerts_lead_to_the_published_ports() -> None:
    """Prometheus and Alertmanager call themselves what this machine calls them."""
    services = compose(PROMETHEUS_PORT="19090", ALERTMANAGER_PORT="19093")["services"]
    for name, port in (("prometheus", "19090"), ("alertmanager", "19093")):
        assert f"--web.external-url=http://localhost:{port}" in services[name]["command"]
        assert [published["published"] for published in services[name]["ports"]] == [port]


def test_smoke_receives_where_alerts_are_sent(services: dict[str, Any]) -> None:
    """Only `make smoke` starts its receiver. Prometheus and Alertmanager name the port that it is told to listen on."""
    assert "smoke" not in services
    receiver = compose(COMPOSE_PROFILES="smoke")["services"]["smoke"]
    *_, host, port = receiver["entrypoint"]
    assert (host, "ports" in receiver) == ("0.0.0.0", False)  # noqa: S104  the stack's own network
    (job,) = [job for job in scraped() if job["job_name"] == "smoke"]
    assert [(found["names"], str(found["port"])) for found in job["dns_sd_configs"]] == [(["smoke"], port)]
    assert f"url: 'http://smoke:{port}/'" in (ROOT / "observability/alertmanager/alertmanager.yml").read_text()


def scraped() -> list[dict[str, Any]]:
    config = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yml").read_text())
    jobs: list[dict[str, Any]] = config["scrape_configs"]
    return jobs


def test_prometheus_knows_alertmanager(services: dict[str, Any]) -> None:
    """It sends alerts to the service, and scrapes it to see that they are handed on."""
    config = yaml.safe_load((ROOT / "observability/prometheus/prometheus.yml").read_text())
    (target,) = config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert target in [name for job in scraped() for one in job.get("static_configs", ()) for name in one["targets"]]
    host, _, port = target.partition(":")
    assert [str(published["target"]) for published in services[host]["ports"]] == [port]


def test_lines_go_where_loki_listens(services: dict[str, Any]) -> None:
    """The API, Grafana, Prometheus and Loki's own file name one port; what Loki writes is on a volume of its own."""
    config = yaml.safe_load((ROOT / "observability/loki/config.yaml").read_text())
    url = f"http://loki:{config['server']['http_listen_port']}"
    environment = services["api"]["environment"]
    assert environment["OTEL_LOGS_EXPORTER"] == "otlp"
    assert environment["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == f"{url}/otlp/v1/logs"
    (job,) = [job for job in scraped() if job["job_name"] == "loki"]
    assert [f"http://{target}" for one in job["static_configs"] for target in one["targets"]] == [url]
    sources = (ROOT / "observability/grafana/provisioning/datasources/all.yaml").read_text()
    assert f"url: {url}\n" in sources
    written = [volume["target"] for volume in services["loki"]["volumes"] if volume["type"] == "volume"]
    assert written == [config["common"]["path_prefix"]]
    assert services["loki"]["read_only"]


def test_lines_are_kept_as_long_as_traces() -> None:
    """Neither link, from a trace or from a line, leads to what is deleted already."""
    jaeger = yaml.safe_load((ROOT / "observability/jaeger/config.yaml").read_text())
    loki = yaml.safe_load((ROOT / "observability/loki/config.yaml").read_text())
    ttl = jaeger["extensions"]["jaeger_storage"]["backends"]["disk"]["badger"]["ttl"]["spans"]
    assert loki["limits_config"]["retention_period"] == ttl
    assert loki["compactor"]["retention_enabled"]


def test_the_dockerfile_passes_hadolint() -> None:
    """Its linter has nothing to say."""
    assert run(BIN / "hadolint", "Dockerfile") == ""


@pytest.mark.skipif(not shutil.which("haproxy") and os.environ.get("CI") != "true", reason="haproxy is missing")
def test_the_proxy_takes_its_configuration() -> None:
    """HAProxy itself finds no fault."""
    run("haproxy", "-c", "-f", "observability/proxy/haproxy.cfg")


def test_metrics_have_a_port_that_is_not_published(services: dict[str, Any]) -> None:
    """The API, Prometheus and the proxy's health checks name the same one."""
    port = services["api"]["environment"]["METRICS_PORT"]
    job, *_ = scraped()
    assert [str(found["port"]) for found in job["dns_sd_configs"]] == [port]
    assert f" api:8000 port {port}\n" in (ROOT / "observability/proxy/haproxy.cfg").read_text()
    published = {port["target"] for service in services.values() for port in service.get("ports", ())}
    assert int(port) not in published


@pytest.mark.parametrize("overlay", [None, "tail-sampling.yaml"])
def test_pipelines_of_jaeger_name_what_is_defined(overlay: str | None) -> None:
    """Each component of a pipeline is configured, with and without tail sampling, and each one configured is used."""
    config = yaml.safe_load((ROOT / "observability/jaeger/config.yaml").read_text())
    if overlay:
        merge(config, yaml.safe_load((ROOT / "observability/jaeger" / overlay).read_text()))
    pipelines = config["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines for name in pipeline.get(kind, ())}
        assert config[kind].keys() <= used <= config[kind].keys() | config["connectors"].keys()
    assert set(config["service"]["extensions"]) == config["extensions"].keys()


def test_links_from_jaeger_lead_to_dashboards() -> None:
    """Each dashboard that a trace links to is one that the stack provides."""
    links = (ROOT / "observability/jaeger/ui.json").read_text()
    provided = (ROOT / "observability/grafana/dashboards").glob("*.json")
    json.loads(links)
    assert set(re.findall(r"/d/([\w-]+)/", links)) <= {json.loads(path.read_text())["uid"] for path in provided}


def test_jaeger_links_a_trace_to_its_lines() -> None:
    """By the query that Grafana's own link has."""
    patterns = json.loads((ROOT / "observability/jaeger/ui.json").read_text())["linkPatterns"]
    (url,) = [pattern["url"] for pattern in patterns if "/explore?" in pattern["url"]]
    (pane,) = json.loads(parse_qs(urlsplit(url.replace("#{traceID}", "0af7")).query)["panes"][0]).values()
    sources = yaml.safe_load((ROOT / "observability/grafana/provisioning/datasources/all.yaml").read_text())
    (jaeger,) = [source["jsonData"] for source in sources["datasources"] if source["name"] == "Jaeger"]
    expected = jaeger["tracesToLogsV2"]["query"].replace("$${__trace.traceId}", "0af7")
    assert [query["expr"] for query in pane["queries"]] == [expected]
    assert pane["datasource"] == jaeger["tracesToLogsV2"]["datasourceUid"]


def merge(config: dict[str, Any], overlay: dict[str, Any]) -> None:
    """Merge as Jaeger does with several --config: maps by key, lists replaced."""
    for key, value in overlay.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            merge(config[key], value)
        else:
            config[key] = value
