"""The examples over HTTP, line by line of its contract."""

from datetime import UTC, datetime

import httpx
import pytest

from tests.examples.support import EXAMPLES, Json, create_example, post_example


@pytest.fixture
def existing(someone: httpx.Client) -> Json:
    return create_example(someone, title="an example", description="in short", completed=False)


def test_a_new_example_is_what_was_sent(someone: httpx.Client) -> None:
    """201 with the example as stored, and where to find it."""
    before = datetime.now(UTC)
    response = post_example(someone, title="buy milk", description="two\tlitres\n", completed=True)
    example = response.json()
    assert (response.status_code, response.headers["location"]) == (201, f"{EXAMPLES}/{example['id']}")
    assert response.headers["content-type"] == "application/json"
    assert list(example) == ["id", "title", "description", "completed", "user_id", "created_at", "updated_at"]
    assert (example["title"], example["description"], example["completed"]) == ("buy milk", "two\tlitres\n", True)
    assert example["user_id"].startswith("someone-")
    assert example["created_at"] == example["updated_at"]
    created_at = datetime.fromisoformat(example["created_at"])
    assert created_at.utcoffset() == UTC.utcoffset(None)
    assert before <= created_at <= datetime.now(UTC)
    assert someone.get(response.headers["location"]).json() == example


def test_only_the_title_is_needed(someone: httpx.Client) -> None:
    """Without more an example is open and has no description."""
    example = create_example(someone, title="t")
    assert (example["description"], example["completed"]) == (None, False)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("  trimmed \t\n", "trimmed"),
        ("a\r\nb", "a\nb"),
        ("\u00a0é\u3000", "é"),
        ("😀" * 200, "😀" * 200),
        ("a  b", "a  b"),
    ],
)
def test_titles_are_trimmed_and_have_one_kind_of_newline(someone: httpx.Client, sent: str, stored: str) -> None:
    """White space goes at both ends, CRLF becomes LF, and the rest stays."""
    example = create_example(someone, title=sent)
    assert example["title"] == stored
    assert someone.put(f"{EXAMPLES}/{example['id']}", json=example | {"title": sent}).json() == example
    assert someone.patch(f"{EXAMPLES}/{example['id']}", json={"title": sent}).json() == example


def test_descriptions_keep_their_white_space(someone: httpx.Client) -> None:
    """Up to 10,000 characters, CRLF counting as one."""
    assert create_example(someone, description="  a\r\n\r\n b  ")["description"] == "  a\n\n b  "
    assert create_example(someone, description="")["description"] == ""
    assert len(create_example(someone, description="\r\n" * 10_000)["description"]) == 10_000


def test_what_was_read_can_be_edited_and_sent_back(someone: httpx.Client, existing: Json) -> None:
    """The read-only fields of an example are ignored in every body, whatever they hold."""
    forged = {"id": 1, "user_id": "bob", "created_at": "1970-01-01T00:00:00Z", "updated_at": None}
    path = f"{EXAMPLES}/{existing['id']}"
    replaced = someone.put(path, json=existing | {"title": "new"}).json()
    assert replaced == existing | {"title": "new", "updated_at": replaced["updated_at"]}
    for response in (
        someone.put(path, json=replaced | forged),
        someone.patch(path, json=forged),
        someone.patch(f"{path}/complete", json=forged | {"completed": False}),
    ):
        assert (response.status_code, response.json()) == (200, replaced)
    again = create_example(someone, **(existing | forged))
    assert again["id"] not in {existing["id"], 1}
    assert again["user_id"] == existing["user_id"]


def test_a_replacement_names_every_field(someone: httpx.Client, existing: Json) -> None:
    """PUT sets all three and moves `updated_at` alone; one left out is 422 and changes nothing."""
    path, whole = f"{EXAMPLES}/{existing['id']}", {"title": "new", "description": None, "completed": True}
    for missing in whole:
        response = someone.put(path, json={name: value for name, value in whole.items() if name != missing})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, f"/{missing}")
    assert someone.get(path).json() == existing
    response = someone.put(path, json=whole)
    assert response.json() == existing | whole | {"updated_at": response.json()["updated_at"]}
    assert response.json()["updated_at"] > existing["updated_at"]
    assert someone.get(path).json() == response.json()


@pytest.mark.parametrize(
    "change",
    [
        {"title": "new"},
        {"description": "at length"},
        {"description": None},
        {"completed": True},
        {"title": "new", "description": None, "completed": True},
    ],
)
def test_a_patch_changes_what_it_names(someone: httpx.Client, existing: Json, change: Json) -> None:
    """Any subset of the three; null clears the description."""
    path = f"{EXAMPLES}/{existing['id']}"
    changed = someone.patch(path, json=change)
    assert changed.status_code == 200
    assert changed.json() == existing | change | {"updated_at": changed.json()["updated_at"]}
    assert changed.json()["updated_at"] > existing["updated_at"]
    assert someone.get(path).json() == changed.json()


@pytest.mark.parametrize(
    "change", [{"title": None}, {"completed": None}, {"title": " "}, {"title": "t", "completed": 1}]
)
def test_a_patch_is_taken_whole_or_not_at_all(someone: httpx.Client, existing: Json, change: Json) -> None:
    """One bad field is 422, and the good ones beside it change nothing."""
    path = f"{EXAMPLES}/{existing['id']}"
    assert someone.patch(path, json=change).status_code == 422
    assert someone.get(path).json() == existing


def test_completing_never_flips_back(someone: httpx.Client, existing: Json) -> None:
    """No body and {} complete, {"completed": false} reopens, and a retry of either changes nothing."""
    path = f"{EXAMPLES}/{existing['id']}/complete"
    done = someone.patch(path).json()
    assert done == existing | {"completed": True, "updated_at": done["updated_at"]}
    assert done["updated_at"] > existing["updated_at"]
    for body in (None, {}, {"completed": True}):
        response = someone.patch(path, json=body) if body is not None else someone.patch(path)
        assert (response.status_code, response.json()) == (200, done)
    reopened = someone.patch(path, json={"completed": False}).json()
    assert reopened == existing | {"updated_at": reopened["updated_at"]}
    assert someone.patch(path, json={"completed": False}).json() == reopened
    assert someone.patch(path, json={}).json()["completed"] is True


def test_a_change_that_changes_nothing_leaves_updated_at(someone: httpx.Client, existing: Json) -> None:
    """PUT, PATCH and complete with the values that stand there, and a PATCH with none."""
    path = f"{EXAMPLES}/{existing['id']}"
    for response in (
        someone.put(path, json=existing),
        someone.patch(path, json=existing),
        someone.patch(path, json={"title": " an example "}),
        someone.patch(path, json={}),
        someone.patch(f"{path}/complete", json={"completed": False}),
    ):
        assert (response.status_code, response.json()) == (200, existing)
    assert someone.get(path).json() == existing


def test_a_deleted_example_is_gone(someone: httpx.Client, existing: Json) -> None:
    """204 without a body, and from then on every call answers as for an example that never was."""
    path = f"{EXAMPLES}/{existing['id']}"
    response = someone.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers
    whole = {"title": "t", "description": None, "completed": True}
    for gone in (
        someone.delete(path),
        someone.get(path),
        someone.put(path, json=whole),
        someone.patch(path, json={"title": "t"}),
        someone.patch(path, json={}),
        someone.patch(f"{path}/complete"),
    ):
        assert (gone.status_code, gone.json()["code"]) == (404, "example_not_found")
    assert someone.get(EXAMPLES).json() == []


def test_head_is_get_without_its_body(someone: httpx.Client, existing: Json) -> None:
    """The same headers, length included (RFC 9110, 9.3.2), but for those that tell of the moment."""
    moving = {"date": "", "ratelimit": "", "server-timing": "", "x-trace-id": ""}
    for path in (EXAMPLES, f"{EXAMPLES}/{existing['id']}"):
        got, head = someone.get(path), someone.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers} | moving == {**got.headers} | moving
