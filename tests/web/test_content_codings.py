"""Bodies with a Content-Encoding: nobody here unpacks them, and the client is told so (RFC 9110, 15.5.16)."""

import gzip
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi import Body as Part
from pydantic import BaseModel

from app.web.body import Body
from app.web.route import ApiRoute
from tests.support import Api
from tests.web.team import call_routers

JSON = json.dumps({"name": "x"}).encode()
PACKED = gzip.compress(JSON)
TYPE = {"Content-Type": "application/json"}


class Strict(Body):
    name: str


class Plain(BaseModel):
    name: str


async def strict(body: Strict) -> str:
    return body.name


async def plain(body: Plain) -> str:
    return body.name


async def mapping(body: dict[str, str]) -> str:
    return body["name"]


async def optional(body: Strict | None = None) -> str:
    return body.name if body else ""


async def part(name: Annotated[str, Part(embed=True)]) -> str:
    return name


async def form(name: Annotated[str, Form()]) -> str:
    return name


async def file(file: Annotated[bytes, File()]) -> str:
    return file.decode()


async def upload(file: UploadFile) -> str:
    return (await file.read()).decode()


async def of_dependency(name: Annotated[str, Depends(mapping)]) -> str:
    return name


async def raw(request: Request) -> list[int]:
    return list(await request.body())


DECLARING = (strict, plain, mapping, optional, part, form, file, upload, of_dependency)
AS_FORM: dict[str, dict[str, Any]] = {
    "form": {"data": {"name": "x"}},
    "file": {"files": {"file": b"x"}},
    "upload": {"files": {"file": b"x"}},
}
MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}

router = APIRouter(prefix="/api", route_class=ApiRoute)
for endpoint in (*DECLARING, raw):
    router.add_api_route(f"/{endpoint.__name__}", endpoint, methods=["POST"])


def post(path: str, **sent: Any) -> httpx.Response:
    answer: httpx.Response = call_routers(router, act=lambda client: client.post(f"/api/{path}", **sent))
    return answer


@pytest.mark.parametrize("coding", ["gzip", "GZip", "br", "identity, gzip", "x-own"])
@pytest.mark.parametrize("name", [endpoint.__name__ for endpoint in DECLARING])
def test_a_coded_body_is_told_from_a_malformed_one(name: str, coding: str) -> None:
    """415 by whatever the endpoint declares a body, with what is taken instead."""
    headers = {"Content-Encoding": coding} | (MULTIPART if name in AS_FORM else TYPE)
    refused = post(name, content=PACKED, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_media_type")
    assert "Content-Encoding" in refused.json()["detail"]
    assert refused.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
@pytest.mark.parametrize("name", [endpoint.__name__ for endpoint in DECLARING])
def test_identity_is_no_coding(name: str, coding: str) -> None:
    """The body is taken as without it."""
    sent = AS_FORM.get(name) or {"content": JSON}
    headers = {"Content-Encoding": coding} | ({} if name in AS_FORM else TYPE)
    assert post(name, headers=headers, **sent).json() == "x"


def test_an_endpoint_that_declares_no_body_has_the_bytes() -> None:
    """What they mean is its own business."""
    assert bytes(post("raw", content=PACKED, headers={"Content-Encoding": "gzip"}).json()) == PACKED


def test_token_and_limit_come_first(serve: Callable[..., AbstractContextManager[Api]]) -> None:
    """A stranger is told nothing of bodies, and this counts like any other request."""
    sent: dict[str, Any] = {"content": PACKED, "headers": TYPE | {"Content-Encoding": "gzip"}}
    with serve(rate_limit="1/hour") as api, api.client(None) as stranger, api.client() as alice:
        assert stranger.post("/api/examples", **sent).status_code == 401
        assert [alice.post("/api/examples", **sent).status_code for _ in range(2)] == [415, 429]
