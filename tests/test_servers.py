"""Other servers than `python -m app serve`, as FastAPI's documentation starts them."""

import subprocess
import sys

import httpx
import pytest

from tests.process import ROOT, environment, free_port
from tests.support import answers, slow, wait_until

SERVERS = {
    "uvicorn --factory": ("uvicorn", "--factory", "app.main:create_app"),
    "uvicorn": ("uvicorn", "app.asgi:app"),
    "uvicorn --root-path": ("uvicorn", "app.asgi:app", "--root-path", "/task-service"),
    "fastapi dev": ("fastapi", "dev", "--no-reload"),
    "fastapi run": ("fastapi", "run", "--host", "127.0.0.1"),
}
QUICK = ("uvicorn --root-path", "fastapi run")


def serves(url: str, server: "subprocess.Popen[str]") -> bool:
    assert server.poll() is None, server.communicate()
    return answers(f"{url}/health")


@pytest.mark.parametrize("name", [*QUICK, *(slow(name) for name in SERVERS if name not in QUICK)])
def test_a_server_that_imports_the_application_serves_it(name: str, database_url: str) -> None:
    """With its settings from the environment, its lifespan, and its answers."""
    port = str(free_port())
    url, env = f"http://127.0.0.1:{port}", environment(database_url, environment="development")
    line = [sys.executable, "-m", *SERVERS[name], "--port", port]
    with subprocess.Popen(
        line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            wait_until(lambda: serves(url, server), seconds=30)
            document = httpx.get(f"{url}/openapi.json").json()
            prefix = "/task-service" if "--root-path" in line else ""
            assert document.get("servers", [{"url": ""}]) == [{"url": prefix}]
            path, operations = next(found for found in document["paths"].items() if found[0].startswith("/api/"))
            refused = httpx.request(next(iter(operations)), url + path)
            assert (refused.status_code, refused.json()["code"]) == (401, "token_missing")
        finally:
            server.terminate()
        server.communicate(timeout=20)
        assert server.returncode in {0, -15}


def test_without_its_settings_it_says_what_is_missing() -> None:
    """By the names of the variables, as the last thing that is printed."""
    env = {name: value for name, value in environment("").items() if name == "PATH"}
    line = [sys.executable, "-c", "from app.main import create_app; create_app()"]
    ended = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    wanted = "app.settings.SettingsError: DATABASE_URL is required here; `make dev` brings its own."
    assert wanted in ended.stderr
