"""Two users of one API never meet."""

import httpx
import pytest

from tests.tasks.support import TASKS, create_task


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"title": "taken", "description": None, "completed": True}),
        ("PATCH", "", {"title": "taken"}),
        ("PATCH", "/complete", None),
        ("DELETE", "", None),
    ],
)
def test_another_users_task_is_a_task_that_never_was(
    alice: httpx.Client, bob: httpx.Client, method: str, path: str, body: object
) -> None:
    """Every call answers for another's id exactly as for one that never was, and leaves the task as it was."""
    task = create_task(alice, title="mine")
    foreign = bob.request(method, f"{TASKS}/{task['id']}{path}", json=body)
    missing = bob.request(method, f"{TASKS}/{task['id'] + 1000}{path}", json=body)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "task_not_found")
    assert missing.status_code == 404
    assert missing.json() | {"trace_id": ""} == foreign.json() | {"trace_id": ""}
    assert alice.get(f"{TASKS}/{task['id']}").json() == task


def test_lists_hold_the_users_own_tasks_alone(alice: httpx.Client, bob: httpx.Client) -> None:
    """No filter, order or cursor shows a task of another user, and pages are not cut short by them."""
    for number in range(6):
        create_task((alice, bob)[number % 2], title=f"task {number}")
    for query in ("", "?order=oldest", "?q=task", "?completed=false"):
        assert {task["user_id"] for task in bob.get(f"{TASKS}{query}").json()} == {"bob"}
    first = bob.get(f"{TASKS}?limit=2")
    second = bob.get(first.links["next"]["url"])
    assert [task["title"] for task in first.json() + second.json()] == ["task 5", "task 3", "task 1"]
    assert "next" not in second.links


def test_the_owner_comes_from_the_token_alone(alice: httpx.Client, bob: httpx.Client) -> None:
    """A `user_id` in a body is ignored, in a new task as in a changed one."""
    task = create_task(alice, title="mine", user_id="bob")
    changed = alice.patch(f"{TASKS}/{task['id']}", json={"user_id": "bob"}).json()
    assert task["user_id"] == changed["user_id"] == "alice"
    assert bob.get(TASKS).json() == []
