"""Whether two answers are the same, but for what `docs/fastapi.md` says is different."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from tests.fastapi.case import ASPECTS

CODE = re.compile(r"[a-z0-9_]+")
NEVER = {"connection", "date", "server"}
OF_THE_DOCUMENT = {"content-length", "content-type"}  # an error is another document
LISTS = {"allow", "cache-control", "vary"}  # the template adds members to what these say


@dataclass(frozen=True)
class Answer:
    """What a client saw, and what the application's code did."""

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
        """Whether this is an error as FastAPI words it: its own document, or the plain text for what nobody caught."""
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR and self.body == b"Internal Server Error":
            return True
        return self.status >= HTTPStatus.BAD_REQUEST and isinstance(self.json, dict) and list(self.json) == ["detail"]


def differences(plain: Answer, other: Answer, compares: frozenset[str] = ASPECTS) -> list[str]:
    """Return how `other` differs from what plain FastAPI answered; each begins with what it is that differs."""
    found = []
    if (plain.status, plain.broken) != (other.status, other.broken):
        found.append(f"status: {plain.status} {plain.broken}, {other.status} {other.broken}")
    found += [f"headers: {text}" for text in _headers(plain, other)]
    found += [f"body: {text}" for text in (_problem if plain.is_error else _body)(plain, other)]
    if plain.log != other.log:
        found.append(f"log: {plain.log}, {other.log}")
    return [text for text in found if text.partition(":")[0] in compares]


def compared(plain: Answer) -> set[str]:
    """Return the names of the headers that another answer must have, too."""
    return plain.headers.keys() - NEVER - (OF_THE_DOCUMENT if plain.is_error else set())


def _headers(plain: Answer, other: Answer) -> Iterator[str]:
    """Every header that FastAPI sent is there; there may be more."""
    for name in compared(plain):
        values = [answer.headers.get_list(name, split_commas=name in LISTS) for answer in (plain, other)]
        if not set(values[0]) <= set(values[1]) or (name not in LISTS and len(values[0]) != len(values[1])):
            yield f"{name} {values[0]}, {values[1]}"


def _body(plain: Answer, other: Answer) -> Iterator[str]:
    one, two = (plain.json, other.json) if plain.is_json and plain.json is not None else (plain.body, other.body)
    if one != two:
        yield f"{one!r}, {two!r} {other.body!r}"


def _problem(plain: Answer, other: Answer) -> Iterator[str]:
    """An error is a problem document that says what FastAPI's said."""
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
        yield f"{detail!r}, {problem}"  # what a framework says of itself may be said in other words


def _invalid(detail: list[Any], problem: dict[str, Any], text: str) -> Iterator[str]:
    """The same fields at fault, in the same order, and nothing of what was sent."""
    wanted = [pointer(error["loc"]) for error in detail]
    found = [error.get("pointer") for error in problem.get("errors", ())]
    if wanted != found:
        yield f"{wanted}, {found}"
    yield from (f"echoes {echo}" for echo in echoes(detail) if echo in text)


def echoes(detail: list[Any]) -> set[str]:
    """Return the values that were at fault, where they are long enough to be told from other text, and no names."""
    values = {error["input"] for error in detail if isinstance(error.get("input"), str) and len(error["input"]) > 3}
    return values - {part for error in detail for part in error["loc"]}


def pointer(location: list[Any]) -> str:
    parts = location[1:] if location[0] == "body" else location
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)
