"""Idempotency-Key: a POST that may be sent again makes one example."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx

EXAMPLE = {"title": "an example", "description": "text", "completed": False}


def post(client: httpx.Client, key: str, body: object = EXAMPLE) -> httpx.Response:
    return client.post("/api/examples", json=body, headers={"Idempotency-Key": key})


def titles(client: httpx.Client) -> list[str]:
    return [example["title"] for example in client.get("/api/examples").json()]


def test_one_key_makes_one_example_however_many_ask_at_once(alice: httpx.Client) -> None:
    """Twenty posts at once with one key: one example and twenty equal answers, nineteen of them marked as replayed."""
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: post(alice, "one"), range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({(answer.text, answer.headers["Location"], answer.headers["ETag"]) for answer in answers}) == 1
    assert sorted(answer.headers.get("Idempotency-Replayed", "") for answer in answers) == ["", *["true"] * 19]
    assert titles(alice) == ["an example"]


def test_without_a_key_every_post_makes_an_example(alice: httpx.Client) -> None:
    """Nobody asked for idempotency: equal posts are different examples."""
    assert (
        alice.post("/api/examples", json=EXAMPLE).json()["id"] != alice.post("/api/examples", json=EXAMPLE).json()["id"]
    )


def test_a_key_belongs_to_one_body(alice: httpx.Client) -> None:
    """The same key with another body is 422, makes nothing, and leaves the first answer to be had again."""
    first = post(alice, "key")
    for other in ({"title": "other"}, EXAMPLE | {"completed": True}, EXAMPLE | {"description": None}):
        refused = post(alice, "key", other)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert post(alice, "key").json() == first.json()
    assert titles(alice) == ["an example"]


def test_of_two_bodies_at_once_one_wins(alice: httpx.Client) -> None:
    """Posts of one key and different bodies race: one body makes an example, the others are 422."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: post(alice, "race", {"title": f"example {number}"}), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201, *[422] * 7]
    assert len(titles(alice)) == 1


def test_a_quoted_key_is_the_same_as_a_bare_one(alice: httpx.Client) -> None:
    """A structured-field string (RFC 8941, 3.3.3) names the same key as its bare content."""
    pairs = [("k-1", '"k-1"'), ('a"b', r'"a\"b"'), ("a\\b", r'"a\\b"'), ("x" * 255, f'"{"x" * 255}"')]
    for bare, quoted in pairs:
        first, second, third = post(alice, bare), post(alice, quoted), post(alice, bare)
        assert first.json() == second.json() == third.json()
        assert "Idempotency-Replayed" not in first.headers
        assert second.headers["Idempotency-Replayed"] == third.headers["Idempotency-Replayed"] == "true"


def test_keys_are_told_apart_exactly(alice: httpx.Client) -> None:
    """Case counts, and nothing is folded, cut or taken for a pattern."""
    keys = ["key", "KEY", "key%", "key_", "k", '"', "'", "\\", "x" * 254, "x" * 255]
    assert len({post(alice, key).json()["id"] for key in keys}) == len(keys)


def test_a_key_is_its_users_own(alice: httpx.Client, bob: httpx.Client) -> None:
    """Two users may use one key, with whatever bodies, and see nothing of each other."""
    first, second = post(alice, "shared"), post(bob, "shared", {"title": "bob's"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in second.headers
    assert (titles(alice), titles(bob)) == (["an example"], ["bob's"])


def test_a_key_lives_as_long_as_its_example(alice: httpx.Client) -> None:
    """Once the example is deleted, its key makes a new one, from any body."""
    first = post(alice, "key")
    alice.delete(first.headers["Location"])
    second = post(alice, "key", {"title": "another"})
    assert (second.status_code, second.json()["title"]) == (201, "another")
    assert "Idempotency-Replayed" not in second.headers
    assert second.json()["id"] != first.json()["id"]


def test_a_replay_answers_with_the_example_as_it_is_now(alice: httpx.Client) -> None:
    """A retry learns of changes made since, with the tag they led to; the key still belongs to the first body."""
    url = post(alice, "key").headers["Location"]
    changed = alice.put(url, json={"title": "changed", "description": None, "completed": True})
    replayed = post(alice, "key")
    assert (replayed.status_code, replayed.json()) == (201, changed.json())
    assert (replayed.headers["Location"], replayed.headers["ETag"]) == (url, changed.headers["ETag"])
    assert post(alice, "key", {k: changed.json()[k] for k in EXAMPLE}).status_code == 422


def test_what_is_no_key_is_refused(alice: httpx.Client) -> None:
    """Empty, over 255 characters, other than visible ASCII, or several: 422, and no example is made."""
    alone = [b"x" * 256, b'"' + b"x" * 256 + b'"', b"", b'""', b"two words", b'"two words"', "é".encode(), b"a\tb"]
    several = [[b"one", b"two"], [b"one", b"one"], [b"one", b""], [b"", b"one"]]
    for keys in [[key] for key in alone] + several:
        answer = alice.post("/api/examples", json=EXAMPLE, headers=[(b"Idempotency-Key", key) for key in keys])
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), keys
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/header/idempotency-key"]
    assert titles(alice) == []


def test_the_same_request_may_be_spelled_differently(alice: httpx.Client) -> None:
    """White space, order, escapes, defaults and ignored fields make no other request of it."""
    first = post(alice, "key")
    headers = {"Idempotency-Key": "key", "Content-Type": "application/json"}
    for spelling in (
        json.dumps(EXAMPLE, indent=4),
        json.dumps(dict(reversed(EXAMPLE.items()))),
        '{"title": "  an example\\t", "description": "text"}',
        '{"title": "\\u0061n example", "description": "text", "completed": false}',
        '{"title": "an example", "description": "text", "id": 7, "user_id": "bob", "created_at": null}',
    ):
        second = alice.post("/api/examples", content=spelling, headers=headers)
        assert (second.status_code, second.json()) == (201, first.json()), spelling
        assert second.headers["Idempotency-Replayed"] == "true"


def test_a_refused_body_does_not_use_up_its_key(alice: httpx.Client) -> None:
    """A key that made nothing is free."""
    assert post(alice, "key", {"title": ""}).status_code == 422
    assert post(alice, "key").status_code == 201
