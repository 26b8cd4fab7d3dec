"""The API as a frontend sees it: from a page of another origin in a real browser."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.browser.frontend import IN_A_BROWSER, Frontend, visit
from tests.support import Api

pytestmark = IN_A_BROWSER

Serve = Callable[..., AbstractContextManager[Api]]


def test_a_frontend_of_another_origin_works_with_examples(frontend: Frontend, serve: Serve, tmp_path: Path) -> None:
    """A page of a listed origin creates, lists, completes and deletes, and can read every header that it needs."""
    with serve(cors_origins=(frontend.origin,)) as api:
        seen = visit(frontend, tmp_path, "page.html", api=api.url)
    assert {name: answer["status"] for name, answer in seen.items()} == {
        "created": 201,
        "replayed": 201,
        "listed": 200,
        "next": 200,
        "known": 304,
        "completed": 200,
        "stale": 412,
        "deleted": 204,
        "gone": 404,
        "invalid": 422,
        "refused": 401,
    }
    assert seen["replayed"]["body"]["id"] == seen["created"]["body"]["id"]
    assert seen["replayed"]["headers"]["idempotency-replayed"] == "true"
    assert [example["title"] for example in seen["listed"]["body"] + seen["next"]["body"]] == [
        "Another",
        "From a browser",
    ]
    assert seen["completed"]["body"]["completed"] is True
    assert seen["completed"]["headers"]["etag"] != seen["created"]["headers"]["etag"]
    for name in ("created", "listed", "gone", "invalid"):
        assert {"ratelimit", "ratelimit-policy", "x-trace-id"} <= seen[name]["headers"].keys(), name


def test_errors_reach_a_frontend_as_problems(frontend: Frontend, serve: Serve, tmp_path: Path) -> None:
    """The page can read each error as problem+json with its code, also when there is no user."""
    with serve(cors_origins=("https://app.example.com", frontend.origin)) as api:
        seen = visit(frontend, tmp_path, "page.html", api=api.url)
    codes = {"stale": "precondition_failed", "gone": "example_not_found", "invalid": "invalid_request"}
    for name, code in (codes | {"refused": "token_invalid"}).items():
        assert seen[name]["headers"]["content-type"] == "application/problem+json"
        assert seen[name]["body"]["code"] == code
        assert seen[name]["body"]["trace_id"] == seen[name]["headers"]["x-trace-id"]
    assert seen["invalid"]["body"]["errors"][0]["pointer"] == "/title"


def test_a_page_of_an_unlisted_origin_is_refused(frontend: Frontend, serve: Serve, tmp_path: Path) -> None:
    """Its preflight request fails, so the browser does not send the request of the page."""
    with serve(cors_origins=("https://app.example.com",)) as api, api.client("alice") as alice:
        seen = visit(frontend, tmp_path, "page.html", api=api.url)
        assert seen == {"error": "TypeError"}
        assert alice.get("/api/examples").json() == []
