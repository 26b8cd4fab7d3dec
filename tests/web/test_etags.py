"""Entity tags (RFC 9110, 8.8.3 and 13): copies are revalidated, and nobody overwrites what they have not read."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

WHOLE = {"title": "new", "description": None, "completed": True}
CHANGES: list[tuple[str, str, object]] = [
    ("PUT", "", WHOLE),
    ("PATCH", "", {"title": "new"}),
    ("PATCH", "", {}),
    ("PATCH", "/complete", None),
    ("PATCH", "/complete", {"completed": False}),
    ("DELETE", "", None),
]

CURRENT = [
    ['"1"'],
    ['W/"1"'],
    ["*"],
    ['"7", W/"1"'],
    ['"7","1"'],
    ['"a,b", ,"1",'],
    [',\t"é" ,"1"'],
    ['"7"', '"1"'],
    ['"1"', 'W/"7"'],
]
MALFORMED = [
    "1",
    "W/1",
    'w/"1"',
    'W/ "1"',
    'W"1"',
    'x"1"',
    '"1"x',
    '"1" "2"',
    '"1',
    '1"',
    "'1'",
    '"1", *',
    '"1"; q=1',
    '"1 "',
    '"01"',
    '"+1"',
    '"1.0"',
    '"-1"',
    '"\N{ARABIC-INDIC DIGIT ONE}"',
    '"99999999999999999999"',
    '""',
    "",
    ",",
    "**",
]


@pytest.fixture
def example(alice: httpx.Client) -> dict[str, Any]:
    """An example at its first version."""
    made = alice.post("/api/examples", json={"title": "first", "description": "text"})
    assert made.headers["ETag"] == '"1"'
    found: dict[str, Any] = made.json()
    return found


@pytest.fixture
def url(example: dict[str, Any]) -> str:
    return f"/api/examples/{example['id']}"


def send(client: httpx.Client, method: str, url: str, body: object, if_match: str) -> httpx.Response:
    headers = [(b"If-Match", if_match.encode())]
    return client.send(client.build_request(method, url, json=body, headers=headers))


def get(client: httpx.Client, url: str, *if_none_match: str) -> httpx.Response:
    return client.get(url, headers=[(b"If-None-Match", line.encode()) for line in if_none_match])


def test_every_single_answer_carries_the_tag_of_its_version(alice: httpx.Client) -> None:
    """Create, read and every change answer with a strong tag, and what a change answers is what a read finds."""
    made = alice.post("/api/examples", json={"title": "an example"})
    url = made.headers["Location"]
    answers = [made, alice.get(url)]
    for method, path, body in CHANGES[:-1]:
        answers.append(alice.request(method, url + path, json=body))
        read = alice.get(url)
        assert (read.headers["ETag"], read.json()) == (answers[-1].headers["ETag"], answers[-1].json())
    assert [answer.headers["ETag"] for answer in answers] == ['"1"', '"1"', '"2"', '"2"', '"2"', '"2"', '"3"']
    assert "ETag" not in alice.get("/api/examples").headers


def test_a_copy_that_is_current_is_not_sent_again(alice: httpx.Client, url: str) -> None:
    """If-None-Match compares weakly, knows lists over any number of lines and `*`; 304 has the tag and no body."""
    for lines in CURRENT:
        answer = get(alice, url, *lines)
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", '"1"'), lines
        assert answer.headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in answer.headers["Vary"]
        assert "Content-Type" not in answer.headers


def test_a_copy_that_is_not_current_is_replaced(alice: httpx.Client, example: dict[str, Any], url: str) -> None:
    """Another version's tag, or one that cannot be ours, gets the whole example."""
    for tag in ('"2"', 'W/"2"', '"7", "8"', *MALFORMED):
        answer = get(alice, url, tag)
        assert (answer.status_code, answer.json()) == (200, example), tag


def test_a_head_request_revalidates_as_get_does(alice: httpx.Client, url: str) -> None:
    """HEAD is GET without the body, preconditions included."""
    assert alice.head(url, headers={"If-None-Match": '"1"'}).status_code == 304
    assert alice.head(url, headers={"If-None-Match": '"2"'}).status_code == 200


def test_a_change_from_the_current_version_is_made(alice: httpx.Client) -> None:
    """If-Match holds for the current strong tag, alone or in a list, and for `*`."""
    for method, path, body in CHANGES:
        for tag in ('"1"', "*", '"7", "1"', '"a,b", , "1",', 'W/"1", "1"'):
            url = alice.post("/api/examples", json={"title": "first", "completed": True}).headers["Location"]
            assert send(alice, method, url + path, body, tag).status_code in {200, 204}, (method, path, tag)


def test_a_change_from_another_version_changes_nothing(alice: httpx.Client, example: dict[str, Any], url: str) -> None:
    """A stale, weak or malformed tag is 412, the example stays as it was, and so does its tag."""
    for method, path, body in CHANGES:
        for tag in ('"2"', 'W/"1"', '"7", W/"1"', *MALFORMED):
            answer = send(alice, method, url + path, body, tag)
            assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), (method, path, tag)
    read = alice.get(url)
    assert (read.json(), read.headers["ETag"]) == (example, '"1"')


def test_a_change_after_another_loses(alice: httpx.Client, url: str) -> None:
    """Two clients read one version: the second to change it is told so, even where it would change nothing."""
    winner = send(alice, "PUT", url, WHOLE, '"1"')
    losers = [send(alice, method, url + path, body, '"1"') for method, path, body in CHANGES]
    assert (winner.status_code, {loser.status_code for loser in losers}) == (200, {412})
    assert alice.get(url).json() == winner.json()


def test_of_many_changes_at_once_one_wins(alice: httpx.Client, url: str) -> None:
    """Twenty changes from one version: one is made, nineteen are 412."""
    with ThreadPoolExecutor(20) as threads:
        titles = [f"change {number}" for number in range(20)]
        answers = list(threads.map(lambda title: send(alice, "PATCH", url, {"title": title}, '"1"'), titles))
    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1
    assert {answer.status_code for answer in answers} == {200, 412}
    assert alice.get(url).json() == won[0].json()


def test_an_example_that_is_not_there_is_404_whatever_the_precondition(
    alice: httpx.Client, bob: httpx.Client, url: str
) -> None:
    """Neither `*` nor a tag tells a missing example, or another user's, from one that never was."""
    bobs = bob.post("/api/examples", json={"title": "first"}).headers["Location"]
    alice.delete(url)
    for tag in ('"1"', "*", 'W/"1"', "junk"):
        for missing in (url, bobs):
            answers = [send(alice, method, missing + path, body, tag) for method, path, body in CHANGES]
            answers.append(get(alice, missing, tag))
            assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "example_not_found")}


def test_a_change_that_changes_nothing_leaves_no_trace(alice: httpx.Client, example: dict[str, Any], url: str) -> None:
    """Same values, same example: version, `updated_at` and tag stay as they were, with or without a precondition."""
    same: list[tuple[str, str, object]] = [
        ("PUT", "", {key: example[key] for key in ("title", "description", "completed")}),
        ("PUT", "", example),
        ("PATCH", "", {}),
        ("PATCH", "", {"title": f"  {example['title']} "}),
        ("PATCH", "", {"description": example["description"], "completed": False}),
        ("PATCH", "/complete", {"completed": False}),
    ]
    for method, path, body in same:
        for headers in ({}, {"If-Match": '"1"'}):
            answer = alice.request(method, url + path, json=body, headers=headers)
            assert (answer.status_code, answer.json(), answer.headers["ETag"]) == (200, example, '"1"'), body


def test_a_change_moves_tag_and_time(alice: httpx.Client, example: dict[str, Any], url: str) -> None:
    """Any field that differs, null included, is a new version with a later `updated_at`; `created_at` stays."""
    patches: list[dict[str, Any]] = [{"title": "b"}, {"description": None}, {"completed": True}]
    for number, patch in enumerate(patches, start=2):
        before, answer = example, alice.patch(url, json=patch)
        example = answer.json()
        assert answer.headers["ETag"] == f'"{number}"'
        assert example["updated_at"] > before["updated_at"]
        assert example == before | patch | {"updated_at": example["updated_at"]}


def test_completing_twice_is_completing_once(alice: httpx.Client, url: str) -> None:
    """A retried complete never flips the example back, and is no new version."""
    first, second = alice.patch(f"{url}/complete"), alice.patch(f"{url}/complete", json={})
    assert (first.json()["completed"], second.json()) == (True, first.json())
    assert first.headers["ETag"] == second.headers["ETag"] == '"2"'
