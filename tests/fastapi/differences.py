"""The differences that the contract asks for. `docs/fastapi.md` has the same table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any

from fastapi import Body as FastAPIBody
from fastapi import Depends, HTTPException, Query, Request
from pydantic import BaseModel

from app.web.body import Body
from tests.fastapi.case import Case, Routes, note

DIFFERENCES: Mapping[str, str] = {
    "Errors": "one shape for every error (RFC 9457), with a stable code, and nothing of what a client sent",
    "Query parameters": "a misspelt filter must not be passed over, nor one of two values be chosen silently",
    "`Body` models": "what is stored was sent so: no type is guessed, no field dropped",
    "Compressed bodies": "a client learns what is wrong, and a small body unpacks into no large one",
    "Order of the checks": "a stranger costs nothing and learns nothing",
    "HEAD": "RFC 9110 asks for it wherever there is GET",
    "Unexpected exceptions": "an answer, a log line and a span instead of a broken connection",
    "Headers of answers": "no sniffing, no shared caches, and a trace to ask about",
    "Trailing slashes": "one address for a thing; a redirect would drop or repeat a body",
    "ReDoc": "one documentation page is enough",
    "Size of a body": "what is read into memory has a bound",
}

KIB = 1024
routes = Routes("/api/differs")
router = routes.router
CASES: list[Case] = []


class Strict(Body):
    size: int
    day: date | None = None


class Filters(BaseModel):
    model_config = {"extra": "forbid"}

    limit: int = 1


def note_dependency() -> None:
    note("dependency")


@routes.get("/refused")
def refused(*, odd: bool = False) -> Any:
    raise HTTPException(404, {"board": 7} if odd else "Project 7 has no such board")


@routes.get("/query", dependencies=[Depends(note_dependency)])
def query(request: Request, size: int = 1) -> Any:
    note(request.method)
    return size


@routes.get("/filters")
def filters(filters: Annotated[Filters, Query()]) -> Any:
    return filters


@routes.get("/undeclared")
def undeclared(request: Request) -> Any:
    return request.query_params["name"]


@routes.post("/strict", dependencies=[Depends(note_dependency)])
def strict(body: Strict) -> Any:
    return body


@routes.post("/strict-two")
def strict_two(body: Strict, number: Annotated[int, FastAPIBody(gt=0)]) -> Any:
    return [body, number]


@routes.get("/broken")
def broken() -> Any:
    raise ValueError("patient-4711")


@routes.post("/bytes")
def size_of(body: Annotated[bytes, FastAPIBody(media_type="text/plain")]) -> Any:
    return len(body)


@routes.post("/large", max_body_size=256 * KIB)
def size_of_large(body: Annotated[bytes, FastAPIBody(media_type="text/plain")]) -> Any:
    return len(body)


@dataclass(frozen=True)
class Differs:
    """A request that the two answer differently: their statuses, and what else the template's answer holds."""

    row: str
    call: str
    plain: int
    ours: int
    options: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)
    pointers: tuple[str, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def case(self) -> Case:
        method, path = self.call.split(" ", 1)
        return Case(self.call, method, path.replace("~", routes.prefix), dict(self.options))
