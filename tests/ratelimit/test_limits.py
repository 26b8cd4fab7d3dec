"""Budgets in one process: exact, a user's own, told in headers, and beyond the reach of strangers."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from app.settings import Settings, SettingsError
from tests.support import Api, make_token, statuses

Serve = Callable[..., AbstractContextManager[Api]]

BAD = {"Authorization": "Bearer not.a.token"}


def test_of_a_thousand_requests_exactly_the_budget_passes(serve: Serve) -> None:
    """However many arrive at once, a fresh user's 100 pass and every other one is 429."""
    with serve(rate_limit="100/minute") as api:
        assert statuses([api.port], requests=1000) == {200: 100, 429: 900}


def test_a_refusal_says_why_and_when_to_return(serve: Serve) -> None:
    """429 is a problem with a stable code, and after the seconds that its Retry-After names a request passes."""
    with serve(rate_limit="2/3second") as api, api.client() as alice:
        assert [alice.get("/api/examples").status_code for _ in range(2)] == [200, 200]
        refused = alice.get("/api/examples")
        asked = time.monotonic()
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["ratelimit"].startswith('"default";r=0;t=')
        seconds = int(refused.headers["retry-after"])
        assert 1 <= seconds <= 3
        time.sleep(max(0.0, asked + seconds - time.monotonic()))
        assert alice.get("/api/examples").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/examples", 200),
        ("HEAD", "/api/examples", 200),
        ("GET", "/api/examples/1", 404),
        ("GET", "/api/examples?odd=1", 422),
        ("POST", "/api/examples", 422),
        ("DELETE", "/api/examples/1", 404),
    ],
)
def test_every_answer_tells_the_budget(serve: Serve, method: str, path: str, status: int) -> None:
    """Errors of a counted request say as much as its success: the policy, what is left, and for how long."""
    with serve(rate_limit="100/minute") as api, api.client() as alice:
        answer = alice.request(method, path)
        assert answer.status_code == status
        assert answer.headers["ratelimit-policy"] == '"default";q=100;w=60'
        assert re.fullmatch(r'"default";r=99;t=(60|59)', answer.headers["ratelimit"])
        assert '"default";r=98;' in alice.request(method, path).headers["ratelimit"]


def test_several_limits_are_several_items(serve: Serve) -> None:
    """Limits joined by `;` all hold; what the shortest refuses is not charged to the longer ones."""
    with serve(rate_limit="1000/hour;2/5second") as api, api.client() as alice:
        answers = [alice.get("/api/examples") for _ in range(10)]
        passed = [answer.status_code for answer in answers].count(200)
        last = answers[-1]
        assert passed < 10
        assert last.headers["ratelimit-policy"] == '"5second";q=2;w=5, "hour";q=1000;w=3600'
        assert last.headers["ratelimit"].startswith('"5second";r=0;t=')
        assert f'"hour";r={1000 - passed};t=' in last.headers["ratelimit"]
        assert 1 <= int(last.headers["retry-after"]) <= 5


def test_every_route_under_api_is_limited(serve: Serve) -> None:
    """Whatever the document lists under /api counts against the one budget of its user, and says that 429 may come."""
    with serve(rate_limit="1/hour") as api, api.client(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
        operations = [(m, p, o) for p, found in paths.items() if p.startswith("/api") for m, o in found.items()]
        assert len(operations) >= 7
        for number, (method, path, operation) in enumerate(operations):
            user = {"Authorization": f"Bearer {make_token(f'user-{number}')}"}
            first, second = (client.request(method, re.sub(r"{\w+}", "1", path), headers=user) for _ in range(2))
            assert first.status_code not in {401, 429}
            assert second.status_code == 429
            assert "429" in operation["responses"]


def test_users_have_budgets_of_their_own(serve: Serve) -> None:
    """One user's spent budget is no other's concern, even from the same address; a fresh token is no fresh budget."""
    with serve(rate_limit="1/hour") as api, api.client("alice") as alice, api.client("bob") as bob:
        assert [alice.get("/api/examples").status_code for _ in range(2)] == [200, 429]
        assert bob.get("/api/examples").status_code == 200
        fresh = {"Authorization": f"Bearer {make_token('alice', jti='another')}"}
        assert bob.get("/api/examples", headers=fresh).status_code == 429


def test_a_window_begins_whole(serve: Serve) -> None:
    """The first answer of a window tells its full length, and no rounding makes it a second more."""
    with serve(rate_limit="100/hour") as api, api.client() as client:
        tokens = [make_token(f"user-{number}") for number in range(40)]
        answers = [client.get("/api/examples", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
        assert {answer.headers["ratelimit"] for answer in answers} == {'"default";r=99;t=3600'}


def test_the_limit_comes_after_the_token_and_before_the_request(serve: Serve) -> None:
    """A spent budget is told before anything is said of query or body; a stranger hears of the token first."""
    with serve(rate_limit="1/hour") as api, api.client() as alice:
        alice.get("/api/examples")
        assert alice.post("/api/examples?odd=1", content=b"{", headers={"Content-Type": "text/odd"}).status_code == 429
        assert alice.get("/api/examples", headers=BAD).status_code == 401


def test_health_and_documents_are_never_limited(serve: Serve) -> None:
    """Probes and the OpenAPI document need no budget, and say nothing of one."""
    with serve(rate_limit="1/hour", rate_limit_unauthenticated="1/hour") as api, api.client() as alice:
        for path in ("/health", "/health/live", "/health/ready", "/openapi.json"):
            answers = [alice.get(path) for _ in range(3)]
            assert {answer.status_code for answer in answers} == {200}
            assert not [answer for answer in answers if "ratelimit" in answer.headers]


def test_browsers_may_read_the_budget(serve: Serve) -> None:
    """The header fields are exposed to other origins, on a refusal too."""
    origin = {"Origin": "https://app.example.com"}
    with serve(rate_limit="1/hour", cors_origins="https://app.example.com") as api, api.client(**origin) as alice:
        for answer in (alice.get("/api/examples"), alice.get("/api/examples")):
            exposed = answer.headers["access-control-expose-headers"].lower()
            assert {"ratelimit", "ratelimit-policy", "retry-after"} <= set(exposed.split(", "))
            assert answer.headers["access-control-allow-origin"] == "https://app.example.com"


WRONG = pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RATE_LIMIT", "banana"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "100/0minute"),
        ("RATE_LIMIT", "100/fortnight"),
        ("RATE_LIMIT", "10/minute;20/60second"),
        ("RATE_LIMIT", "10/minute;"),
        ("RATE_LIMIT", f"{10**20}/minute"),
        ("RATE_LIMIT", "1/99999999999year"),
        ("RATE_LIMIT_UNAUTHENTICATED", "-1/minute"),
        ("RATE_LIMIT_STORAGE_URI", "hunter2"),
        ("RATE_LIMIT_STORAGE_URI", "memcached://hunter2:11211"),
        ("RATE_LIMIT_STORAGE_URI", "redis://"),
        ("RATE_LIMIT_STORAGE_URI", "redis://:hunter2@host:port"),
        ("RATE_LIMIT_STORAGE_URI", "redis://:hunter2@host:99999"),
        ("RATE_LIMIT_STORAGE_URI", "redis://:hun#ter2@host"),
        ("RATE_LIMIT_STORAGE_URI", "redis://:hunter2@host/cache"),
        ("RATE_LIMIT_STORAGE_URI", "redis://:hunter2@host/0?sockettimeout=1"),
        ("RATE_LIMIT_STORAGE_URI", "redis+unix://:hunter2@"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
        ("FORWARDED_ALLOW_IPS", "proxy.example.com"),
        ("FORWARDED_ALLOW_IPS", "*,10.0.0.1"),
    ],
)


@WRONG
def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str) -> None:
    """One readable line names the variable and does not repeat a password."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refused:
        Settings.load()
    assert re.fullmatch(rf"{variable}: [^\n]+", str(refused.value))
    assert "hunter2" not in str(refused.value)


def test_wrong_settings_end_the_start() -> None:
    """The program says that one line, and ends with exit code 2."""
    environment = {"PATH": os.environ["PATH"], "RATE_LIMIT": "banana"}
    command = [sys.executable, "-m", "app", "serve"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("RATE_LIMIT: ")
