"""Keyset pages: a cursor is a place in the order, never a count of rows to skip."""

import base64
import binascii
from typing import Annotated
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema
from starlette._utils import get_route_path
from starlette.requests import Request

from app.web.params import MAX_BIGINT, Limit

_BYTES = 8


def _decode(cursor: object) -> int:
    try:
        raw = base64.urlsafe_b64decode(f"{cursor}=".encode("ascii"))
    except (UnicodeEncodeError, binascii.Error):
        raw = b""
    position = int.from_bytes(raw, "big")
    if len(raw) != _BYTES or not 0 < position <= MAX_BIGINT or encode(position) != cursor:
        raise ValueError("must be a cursor from a Link header")
    return position


def encode(position: int) -> str:
    """Return the cursor of the row with the id `position`."""
    return base64.urlsafe_b64encode(position.to_bytes(_BYTES, "big")).decode().rstrip("=")


Cursor = Annotated[int, BeforeValidator(_decode), WithJsonSchema({"type": "string"})]


class Page(BaseModel):
    """Which part of a list: at most `limit` rows after the one that `cursor` names."""

    limit: Limit = 50
    cursor: Annotated[Cursor | None, Field(description="From the Link header of the page before.")] = None


def path_of(request: Request) -> str:
    """Return the path of a request, with the prefix of a proxy, as a header can hold it.

    A path and no URL: nothing of the Host header comes back.
    """
    return quote(request.scope["root_path"] + get_route_path(request.scope))


def next_link(request: Request, last_id: int | None) -> dict[str, str]:
    """Return the Link header (RFC 8288) to the page after the row `last_id`, if there is one."""
    if last_id is None:
        return {}
    query = [(name, value) for name, value in parse_qsl(request.scope["query_string"].decode()) if name != "cursor"]
    return {"Link": f'<{path_of(request)}?{urlencode([*query, ("cursor", encode(last_id))])}>; rel="next"'}
