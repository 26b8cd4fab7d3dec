"""Refusals as RFC 9457 problems: what a client can rely on."""

import json
from typing import Any

import httpx
import pytest

EXAMPLE = "/api/examples/1"


def refuse(client: httpx.Client, body: Any) -> Any:
    response = client.post("/api/examples", json=body)
    assert response.status_code == 422
    return response.json()["errors"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/examples", "GET, HEAD, POST"),
        (EXAMPLE, "DELETE, GET, HEAD, PATCH, PUT"),
        (f"{EXAMPLE}/complete", "PATCH"),
        ("/health", "GET, HEAD"),
        ("/health/live", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(stranger: httpx.Client, path: str, allowed: str) -> None:
    """405 with every method of every route of the path, before anyone asks for a token (RFC 9110, 15.5.6)."""
    response = stranger.request("PURGE", path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json() | {"trace_id": ""} == {
        "type": "about:blank",
        "title": "Method Not Allowed",
        "status": 405,
        "detail": "The resource does not know this method.",
        "code": "method_not_allowed",
        "trace_id": "",
    }


def test_an_unknown_path_is_told_from_an_unknown_example(stranger: httpx.Client, someone: httpx.Client) -> None:
    """Both are 404, the first for anyone, each with its code."""
    nowhere, no_example = stranger.get("/api/nowhere"), someone.get(EXAMPLE)
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    assert (no_example.status_code, no_example.json()["code"]) == (404, "example_not_found")


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/title"]),
        ([], [""]),
        ({"title": 1, "completed": 1}, ["/title", "/completed"]),
        ({"title": "t", "a/b~c": 1}, ["/a~1b~0c"]),
        ({"title": "t", "": 1}, ["/"]),
        ({"title": "t", "0": 1}, ["/0"]),
    ],
)
def test_errors_point_at_their_fields(someone: httpx.Client, body: Any, pointers: list[str]) -> None:
    """RFC 6901 pointers into the body, each with a message."""
    errors = refuse(someone, body)
    assert [error["pointer"] for error in errors] == pointers
    assert all(error["message"] for error in errors)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("limit=0", "/query/limit"), ("cursor=x", "/query/cursor"), ("q=", "/query/q"), ("order=x", "/query/order")],
)
def test_errors_point_at_parameters(someone: httpx.Client, query: str, pointer: str) -> None:
    """A pointer that begins with /query names a parameter."""
    response = someone.get(f"/api/examples?{query}")
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_an_unknown_parameter_is_told_which_are_known(someone: httpx.Client) -> None:
    """Without the name that was sent; where there is no parameter, that."""
    (listed,) = someone.get("/api/examples?limt=5").json()["errors"]
    (read,) = someone.get("/api/examples/1?limt=5").json()["errors"]
    assert listed["message"] == "is no parameter here; known are: completed, cursor, limit, order, q"
    assert read["message"] == "is no parameter here; there are none"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"title": ""}, "String should have at least 1 character"),
        ({"title": "x" * 201}, "String should have at most 200 characters"),
        ({"title": "a\0b"}, "must not hold control characters other than tab and newline"),
        ({"title": 5}, "Input should be a valid string"),
        ({"completed": "yes"}, "Input should be a valid boolean"),
        ({"nonsense": 1}, "is no field here; known are: completed, description, title"),
    ],
)
def test_messages_are_for_people(someone: httpx.Client, fields: dict[str, Any], message: str) -> None:
    """A sentence on what would be right, without what was sent."""
    assert [error["message"] for error in refuse(someone, {"title": "t"} | fields)] == [message]


def test_a_refusal_stays_short(someone: httpx.Client) -> None:
    """At most 20 errors are listed and a pointer is cut, however many and long the fields are."""
    errors = refuse(someone, {"title": "t"} | {f"{number}{'n' * 1000}": 0 for number in range(50)})
    assert len(errors) == 20
    assert max(len(error["pointer"]) for error in errors) == 200
    query = "&".join(f"unknown{number}=1" for number in range(200))
    assert len(someone.get(f"/api/examples?{query}").json()["errors"]) == 20


def test_a_field_name_cannot_break_the_answer(someone: httpx.Client) -> None:
    """Names come back as JSON escapes them, control characters and lone surrogates included."""
    response = someone.post(
        "/api/examples",
        content=rb'{"title": "t", "\u0000\n\"\\<script>\u2028": 1}',
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 422
    assert json.loads(response.content)["errors"][0]["pointer"] == '/\0\n"\\<script>\u2028'
    assert response.content.isascii()
