"""Odd, hostile and border-line requests, each with the one status it is to get."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.web.raw import TOKEN, request

CANARY = "canary-7f3a"
"""Stands where a value is at fault: no answer may hold it."""

AUTH = b"Authorization: Bearer " + TOKEN
JSON = "Content-Type: application/json"
GOOD_BODY = '{"title": "x"}'
DIGITS = "9" * 5000


@dataclass(frozen=True)
class Case:
    """`more` is sent after `raw`. With `parser` the HTTP parser below the application answers, in plain text."""

    name: str
    status: int
    raw: bytes
    more: tuple[bytes, ...] = ()
    parser: bool = False


def each(
    status: int, name: str, build: Callable[[str], bytes], values: Iterable[str], *, parser: bool = False
) -> list[Case]:
    return [Case(f"{name} {value[:40]!a}", status, build(value), parser=parser) for value in values]


def get(target: str | bytes, *headers: str | bytes) -> bytes:
    return request("GET", target, AUTH, *headers)


def post(body: str | bytes, *headers: str | bytes) -> bytes:
    return write("POST", "/api/examples", body, *headers)


def write(method: str, target: str, body: str | bytes, *headers: str | bytes) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return request(method, target, AUTH, *(headers or [JSON]), body=body)
