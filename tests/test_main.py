"""One application, and two of them in one process."""

from collections.abc import Callable

import httpx

from app.settings import Settings
from tests.support import ORIGIN, SECRET, UNLIMITED, make_token, running


def test_two_applications_do_not_disturb_each_other(new_database: Callable[[], str]) -> None:
    """Each has its own database, secret, origins and limits, and the end of one is not the end of the other."""
    other_secret = "another-secret-that-is-long-enough"
    first = Settings(database_url=new_database(), better_auth_secret=SECRET, rate_limit="3/hour")
    second = Settings(database_url=new_database(), better_auth_secret=other_secret, cors_origins=(ORIGIN,), **UNLIMITED)
    with running(second) as api:
        token = make_token(key=other_secret)
        with running(first) as short_lived, short_lived.client() as client:
            assert client.post("/api/tasks", json={"title": "only here"}).status_code == 201
            assert ask(api.url, token).json() == []
            assert ask(api.url, make_token()).status_code == 401
            assert ask(short_lived.url, token).status_code == 401
            assert "access-control-allow-origin" not in ask(short_lived.url, make_token()).headers
            assert [client.get("/api/tasks").status_code for _ in range(2)] == [200, 429]
        answers = [ask(api.url, token) for _ in range(5)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[0].headers["access-control-allow-origin"] == ORIGIN


def ask(url: str, token: str) -> httpx.Response:
    return httpx.get(f"{url}/api/tasks", headers={"Authorization": f"Bearer {token}", "Origin": ORIGIN})
