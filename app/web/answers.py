"""The answers about rows that every entity gives; `adapter` knows how clients read them."""

from typing import Any

from fastapi import Request, Response
from pydantic import TypeAdapter

from app.db.store import Found, FoundPage
from app.web.etags import Known, etag
from app.web.paging import next_link, path_of
from app.web.route import json


def page(adapter: TypeAdapter[Any], found: FoundPage, request: Request) -> Response:
    """Return a page of rows, with a Link to the next one where more follow."""
    return json(adapter.dump_json(found.rows), headers=next_link(request, found.cursor))


def one(adapter: TypeAdapter[Any], found: Found, known: Known | None = None) -> Response:
    """Return a row with the tag of its version, or 304 where the client has that version (RFC 9110, 15.4.5)."""
    headers = {"ETag": etag(found.version)}
    if known and known.holds(found.version):
        return Response(status_code=304, headers=headers)
    return json(adapter.dump_json(found.row), headers=headers)


def created(adapter: TypeAdapter[Any], found: Found, request: Request) -> Response:
    """Return a new row, its tag and where to find it; say so if its Idempotency-Key made it before."""
    headers = {"Location": f"{path_of(request)}/{found.row['id']}", "ETag": etag(found.version)}
    if found.replayed:
        headers["Idempotency-Replayed"] = "true"
    return json(adapter.dump_json(found.row), 201, headers)
