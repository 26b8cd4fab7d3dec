"""Two users of one API never meet."""

import httpx
import pytest

from tests.examples.support import EXAMPLES, create_example


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
def test_another_users_example_is_an_example_that_never_was(
    alice: httpx.Client, bob: httpx.Client, method: str, path: str, body: object
) -> None:
    """Every call answers for another's id exactly as for one that never was, and leaves the example as it was."""
    example = create_example(alice, title="mine")
    foreign = bob.request(method, f"{EXAMPLES}/{example['id']}{path}", json=body)
    missing = bob.request(method, f"{EXAMPLES}/{example['id'] + 1000}{path}", json=body)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "example_not_found")
    assert missing.status_code == 404
    assert missing.json() | {"trace_id": ""} == foreign.json() | {"trace_id": ""}
    assert alice.get(f"{EXAMPLES}/{example['id']}").json() == example


def test_lists_hold_the_users_own_examples_alone(alice: httpx.Client, bob: httpx.Client) -> None:
    """No filter, order or cursor shows an example of another user, and pages are not cut short by them."""
    for number in range(6):
        create_example((alice, bob)[number % 2], title=f"example {number}")
    for query in ("", "?order=oldest", "?q=example", "?completed=false"):
        assert {example["user_id"] for example in bob.get(f"{EXAMPLES}{query}").json()} == {"bob"}
    first = bob.get(f"{EXAMPLES}?limit=2")
    second = bob.get(first.links["next"]["url"])
    assert [example["title"] for example in first.json() + second.json()] == ["example 5", "example 3", "example 1"]
    assert "next" not in second.links


def test_the_owner_comes_from_the_token_alone(alice: httpx.Client, bob: httpx.Client) -> None:
    """A `user_id` in a body is ignored, in a new example as in a changed one."""
    example = create_example(alice, title="mine", user_id="bob")
    changed = alice.patch(f"{EXAMPLES}/{example['id']}", json={"user_id": "bob"}).json()
    assert example["user_id"] == changed["user_id"] == "alice"
    assert bob.get(EXAMPLES).json() == []
