"""The task API, line by line of its contract."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import httpx
import pytest

TASKS = "/api/tasks"
Json = dict[str, Any]


def create(client: httpx.Client, **fields: Any) -> Json:
    response = client.post(TASKS, json={"title": "a task"} | fields)
    assert response.status_code == 201
    task: Json = response.json()
    return task


def walk(client: httpx.Client, **query: Any) -> Iterator[list[str]]:
    """The titles of each page, to the last."""
    response = client.get(TASKS, params=query)
    while True:
        assert response.status_code == 200
        yield [task["title"] for task in response.json()]
        if "next" not in response.links:
            return
        response = client.get(response.links["next"]["url"])


def titles(client: httpx.Client, **query: Any) -> list[str]:
    return [title for page in walk(client, **query) for title in page]


@pytest.fixture
def task(someone: httpx.Client) -> Json:
    return create(someone, title="a task", description="in short", completed=False)


def test_a_new_task_is_what_was_sent(someone: httpx.Client) -> None:
    """201 with the task as stored, and where to find it."""
    before = datetime.now(UTC)
    response = someone.post(TASKS, json={"title": "buy milk", "description": "two\tlitres\n", "completed": True})
    task = response.json()
    assert (response.status_code, response.headers["location"]) == (201, f"{TASKS}/{task['id']}")
    assert response.headers["content-type"] == "application/json"
    assert list(task) == ["id", "title", "description", "completed", "user_id", "created_at", "updated_at"]
    assert (task["title"], task["description"], task["completed"]) == ("buy milk", "two\tlitres\n", True)
    assert task["user_id"].startswith("someone-")
    assert task["created_at"] == task["updated_at"]
    created_at = datetime.fromisoformat(task["created_at"])
    assert created_at.utcoffset() == UTC.utcoffset(None)
    assert before <= created_at <= datetime.now(UTC)
    assert someone.get(response.headers["location"]).json() == task


def test_only_the_title_is_needed(someone: httpx.Client) -> None:
    """Without more a task is open and has no description."""
    task = create(someone, title="t")
    assert (task["description"], task["completed"]) == (None, False)


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
    task = create(someone, title=sent)
    assert task["title"] == stored
    assert someone.put(f"{TASKS}/{task['id']}", json=task | {"title": sent}).json() == task
    assert someone.patch(f"{TASKS}/{task['id']}", json={"title": sent}).json() == task


def test_descriptions_keep_their_white_space(someone: httpx.Client) -> None:
    """Up to 10,000 characters, CRLF counting as one."""
    assert create(someone, description="  a\r\n\r\n b  ")["description"] == "  a\n\n b  "
    assert create(someone, description="")["description"] == ""
    assert len(create(someone, description="\r\n" * 10_000)["description"]) == 10_000


def test_what_was_read_can_be_edited_and_sent_back(someone: httpx.Client, task: Json) -> None:
    """The read-only fields of a task are ignored in every body, whatever they hold."""
    forged = {"id": 1, "user_id": "bob", "created_at": "1970-01-01T00:00:00Z", "updated_at": None}
    path = f"{TASKS}/{task['id']}"
    replaced = someone.put(path, json=task | {"title": "new"}).json()
    assert replaced == task | {"title": "new", "updated_at": replaced["updated_at"]}
    for response in (
        someone.put(path, json=replaced | forged),
        someone.patch(path, json=forged),
        someone.patch(f"{path}/complete", json=forged | {"completed": False}),
    ):
        assert (response.status_code, response.json()) == (200, replaced)
    again = create(someone, **(task | forged))
    assert again["id"] not in {task["id"], 1}
    assert again["user_id"] == task["user_id"]


def test_a_list_is_newest_first_and_may_be_oldest_first(someone: httpx.Client) -> None:
    """An empty list, then one of two, in both orders; and a list holds a task as it is read alone."""
    assert someone.get(TASKS).json() == []
    first, second = create(someone, title="first"), create(someone, title="second")
    assert someone.get(TASKS).json() == [second, first]
    assert someone.get(TASKS, params={"order": "newest"}).json() == [second, first]
    assert someone.get(TASKS, params={"order": "oldest"}).json() == [first, second]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_pages_lead_to_the_end(someone: httpx.Client, order: str, limit: int) -> None:
    """Each page is full but the last, none is empty, and together they hold each task once, in order."""
    wanted = [create(someone, title=f"{number}")["title"] for number in range(7)]
    pages = list(walk(someone, order=order, limit=limit))
    assert [len(page) for page in pages] == [len(wanted[start : start + limit]) for start in range(0, 7, limit)]
    assert list(chain(*pages)) == (wanted if order == "oldest" else wanted[::-1])


def test_a_page_is_of_50_unless_told_otherwise(someone: httpx.Client) -> None:
    """50, and up to 100 on request."""
    for number in range(102):
        create(someone, title=f"{number}")
    assert [len(page) for page in walk(someone)] == [50, 50, 2]
    assert [len(page) for page in walk(someone, limit=100)] == [100, 2]


def test_a_link_keeps_the_filters(someone: httpx.Client) -> None:
    """The next page has the same limit, order, filter and text, whatever characters are in it."""
    text = "50% & more=é+_\\ #1"
    for number in range(5):
        create(someone, title=f"{number} {text}", completed=number != 2)
        create(someone, title=f"{number} other", completed=True)
    pages = list(walk(someone, q=text, completed="true", order="oldest", limit=2))
    assert pages == [[f"0 {text}", f"1 {text}"], [f"3 {text}", f"4 {text}"]]


def test_a_link_is_a_path(someone: httpx.Client) -> None:
    """It names no host, which a client could have forged, and its cursor is opaque."""
    create(someone)
    create(someone)
    link = someone.get(TASKS, params={"limit": 1}, headers={"Host": "evil.test"}).headers["link"]
    assert link.startswith(f"<{TASKS}?limit=1&cursor=")
    assert link.endswith('>; rel="next"')


def test_rows_that_come_and_go_while_paging_move_nothing(someone: httpx.Client) -> None:
    """Newer tasks and deleted ones, the cursor's own among them, neither repeat nor hide any other."""
    ids = [create(someone, title=f"{number}")["id"] for number in range(6)]
    pages = walk(someone, limit=2)
    assert next(pages) == ["5", "4"]
    create(someone, title="new")
    for index in (4, 5, 1):
        someone.delete(f"{TASKS}/{ids[index]}")
    assert list(pages) == [["3", "2"], ["0"]]
    pages = walk(someone, limit=2, order="oldest")
    assert next(pages) == ["0", "2"]
    create(someone, title="newest")
    assert list(pages) == [["3", "new"], ["newest"]]


def test_lists_can_be_of_open_or_done_tasks(someone: httpx.Client) -> None:
    """`completed` is true or false, or left out for both."""
    create(someone, title="open")
    create(someone, title="done", completed=True)
    assert titles(someone, completed="true") == ["done"]
    assert titles(someone, completed="false") == ["open"]
    assert titles(someone) == ["done", "open"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MILK", ["Buy milk"]),
        ("two litres", ["Buy milk"]),
        ("école", ["À L'ÉCOLE"]),
        ("à l'éc", ["À L'ÉCOLE"]),
        ("%", ["100% sure"]),
        ("0% s", ["100% sure"]),
        ("_", ["snake_case"]),
        ("e_c", ["snake_case"]),
        ("\\", ["back\\slash"]),
        ("k\\s", ["back\\slash"]),
        ("\\%", []),
        ("' OR 1=1 --", []),
        ("0 S", ["1000 sure"]),
        ("😀", ["emoji"]),
        ("nowhere", []),
    ],
)
def test_text_is_found_wherever_it_stands(someone: httpx.Client, text: str, found: list[str]) -> None:
    """In title or description, whatever its case, each character standing for itself."""
    create(someone, title="Buy milk", description="Two litres")
    for title in ("100% sure", "1000 sure", "snake_case", "snakeXcase", "back\\slash", "À L'ÉCOLE"):
        create(someone, title=title)
    create(someone, title="emoji", description="x😀")
    assert titles(someone, q=text) == found


def test_a_replacement_names_every_field(someone: httpx.Client, task: Json) -> None:
    """PUT sets all three and moves `updated_at` alone; one left out is 422 and changes nothing."""
    path, whole = f"{TASKS}/{task['id']}", {"title": "new", "description": None, "completed": True}
    for missing in whole:
        response = someone.put(path, json={name: value for name, value in whole.items() if name != missing})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, f"/{missing}")
    assert someone.get(path).json() == task
    response = someone.put(path, json=whole)
    assert response.json() == task | whole | {"updated_at": response.json()["updated_at"]}
    assert response.json()["updated_at"] > task["updated_at"]
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
def test_a_patch_changes_what_it_names(someone: httpx.Client, task: Json, change: Json) -> None:
    """Any subset of the three; null clears the description."""
    path = f"{TASKS}/{task['id']}"
    changed = someone.patch(path, json=change)
    assert changed.status_code == 200
    assert changed.json() == task | change | {"updated_at": changed.json()["updated_at"]}
    assert changed.json()["updated_at"] > task["updated_at"]
    assert someone.get(path).json() == changed.json()


@pytest.mark.parametrize(
    "change", [{"title": None}, {"completed": None}, {"title": " "}, {"title": "t", "completed": 1}]
)
def test_a_patch_is_taken_whole_or_not_at_all(someone: httpx.Client, task: Json, change: Json) -> None:
    """One bad field is 422, and the good ones beside it change nothing."""
    path = f"{TASKS}/{task['id']}"
    assert someone.patch(path, json=change).status_code == 422
    assert someone.get(path).json() == task


def test_completing_never_flips_back(someone: httpx.Client, task: Json) -> None:
    """No body and {} complete, {"completed": false} reopens, and a retry of either changes nothing."""
    path = f"{TASKS}/{task['id']}/complete"
    done = someone.patch(path).json()
    assert done == task | {"completed": True, "updated_at": done["updated_at"]}
    assert done["updated_at"] > task["updated_at"]
    for body in (None, {}, {"completed": True}):
        response = someone.patch(path, json=body) if body is not None else someone.patch(path)
        assert (response.status_code, response.json()) == (200, done)
    reopened = someone.patch(path, json={"completed": False}).json()
    assert reopened == task | {"updated_at": reopened["updated_at"]}
    assert someone.patch(path, json={"completed": False}).json() == reopened
    assert someone.patch(path, json={}).json()["completed"] is True


def test_a_change_that_changes_nothing_leaves_updated_at(someone: httpx.Client, task: Json) -> None:
    """PUT, PATCH and complete with the values that stand there, and a PATCH with none."""
    path = f"{TASKS}/{task['id']}"
    for response in (
        someone.put(path, json=task),
        someone.patch(path, json=task),
        someone.patch(path, json={"title": " a task "}),
        someone.patch(path, json={}),
        someone.patch(f"{path}/complete", json={"completed": False}),
    ):
        assert (response.status_code, response.json()) == (200, task)
    assert someone.get(path).json() == task


def test_a_deleted_task_is_gone(someone: httpx.Client, task: Json) -> None:
    """204 without a body, and from then on every call answers as for a task that never was."""
    path = f"{TASKS}/{task['id']}"
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
        assert (gone.status_code, gone.json()["code"]) == (404, "task_not_found")
    assert someone.get(TASKS).json() == []


def test_head_is_get_without_its_body(someone: httpx.Client, task: Json) -> None:
    """The same headers, length included (RFC 9110, 9.3.2), but for those that tell of the moment."""
    moving = {"date": "", "ratelimit": "", "server-timing": "", "x-trace-id": ""}
    for path in (TASKS, f"{TASKS}/{task['id']}"):
        got, head = someone.get(path), someone.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {**head.headers} | moving == {**got.headers} | moving
