"""Compares two answers. What `docs/fastapi.md` names as a difference does not count."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from tests.fastapi.case import ASPECTS

CODE = re.compile(r"[a-z0-9_]+")
NOT_COMPARED = {"connection", "date", "server"}
DOCUMENT_HEADERS = {"content-length", "content-type"}  # not of an error, which is another document
LIST_HEADERS = {"allow", "cache-control", "vary"}  # the template adds members to these


@dataclass(frozen=True)
class Answer:
    """What a client received, and the log of the application's code."""

    status: int
    headers: httpx.Headers
    body: bytes
    log: tuple[str, ...]
    broken: bool = False

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def is_json(self) -> bool:
        return str(self.headers.get("content-type", "")).partition(";")[0].endswith("json")

    @property
    def is_error(self) -> bool:
        """Whether this is an error of FastAPI: its own document, or the plain text for an uncaught exception."""
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR and self.body == b"Internal Server Error":
            return True
        return self.status >= HTTPStatus.BAD_REQUEST and isinstance(self.json, dict) and list(self.json) == ["detail"]


def differences(plain: Answer, other: Answer, compares: frozenset[str] = ASPECTS) -> list[str]:
    """Return how `other` differs from the answer of plain FastAPI. Each text begins with the aspect."""
    texts = []
    if (plain.status, plain.broken) != (other.status, other.broken):
        texts.append(f"status: {plain.status} {plain.broken}, {other.status} {other.broken}")
    texts += [f"headers: {text}" for text in _headers(plain, other)]
    texts += [f"body: {text}" for text in (_problem if plain.is_error else _body)(plain, other)]
    if plain.log != other.log:
        texts.append(f"log: {plain.log}, {other.log}")
    return [text for text in texts if text.partition(":")[0] in compares]


def headers_to_compare(plain: Answer) -> set[str]:
    """Return the names of the headers that the other answer must have, too."""
    return plain.headers.keys() - NOT_COMPARED - (DOCUMENT_HEADERS if plain.is_error else set())


def _headers(plain: Answer, other: Answer) -> Iterator[str]:
    """Compare the headers: all that FastAPI sent must be there, and there may be more."""
    for name in headers_to_compare(plain):
        values = [answer.headers.get_list(name, split_commas=name in LIST_HEADERS) for answer in (plain, other)]
        if not set(values[0]) <= set(values[1]) or (name not in LIST_HEADERS and len(values[0]) != len(values[1])):
            yield f"{name} {values[0]}, {values[1]}"


def _body(plain: Answer, other: Answer) -> Iterator[str]:
    one, two = (plain.json, other.json) if plain.is_json and plain.json is not None else (plain.body, other.body)
    if one != two:
        yield f"{one!r}, {two!r} {other.body!r}"


def _problem(plain: Answer, other: Answer) -> Iterator[str]:
    """Compare errors: the other is a problem document that says the same as FastAPI's error."""
    problem = other.json
    if other.headers.get("content-type") != "application/problem+json" or not isinstance(problem, dict):
        yield f"no problem document: {other.body!r}"
        return
    if problem.get("status") != plain.status or not CODE.fullmatch(str(problem.get("code"))):
        yield f"status or code: {problem}"
    detail = plain.json["detail"] if plain.json else None
    if plain.status == HTTPStatus.UNPROCESSABLE_ENTITY and isinstance(detail, list) and "loc" in detail[0]:
        yield from _invalid(detail, problem, other.body.decode())
    elif not isinstance(detail, str | None):
        if problem.get("data") != detail or problem.get("detail") != HTTPStatus(plain.status).phrase:
            yield f"{detail!r}, {problem}"
    elif detail and detail != HTTPStatus(plain.status).phrase and problem.get("detail") != detail:
        yield f"{detail!r}, {problem}"  # a framework's own text may be other words


def _invalid(detail: list[Any], problem: dict[str, Any], text: str) -> Iterator[str]:
    """Compare validation errors: the same fields in the same order, and no value that was sent."""
    wanted = [pointer(error["loc"]) for error in detail]
    found = [error.get("pointer") for error in problem.get("errors", ())]
    if wanted != found:
        yield f"{wanted}, {found}"
    yield from (f"echoes {echo}" for echo in echoes(detail) if echo in text)


def echoes(detail: list[Any]) -> set[str]:
    """Return the wrong values that were sent, if they are longer than 3 characters and not names of fields."""
    values = {error["input"] for error in detail if isinstance(error.get("input"), str) and len(error["input"]) > 3}
    return values - {part for error in detail for part in error["loc"]}


def pointer(location: list[Any]) -> str:
    parts = location[1:] if location[0] == "body" else location
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
