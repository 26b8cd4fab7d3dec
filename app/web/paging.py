"""Keyset pages: a cursor is a place in the order, never a count of rows to skip."""

from typing import Annotated
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import BaseModel, Field
from starlette._utils import get_route_path
from starlette.requests import Request

from app.web.params import Limit


class Page(BaseModel):
    """Which part of a list: at most `limit` rows after the one that `cursor` names."""

    limit: Limit = 50
    cursor: Annotated[str | None, Field(description="From the Link header of the page before.")] = None


def path_of(request: Request) -> str:
    """Return the path of a request, with the prefix of a proxy, as a header can hold it.

    A path and no URL: nothing of the Host header comes back.
    """
    return quote(request.scope["root_path"] + get_route_path(request.scope))


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the Link header (RFC 8288) to the page after the row of `cursor`, if there is one."""
    if cursor is None:
        return {}
    query = [(name, value) for name, value in parse_qsl(request.scope["query_string"].decode()) if name != "cursor"]
    return {"Link": f'<{path_of(request)}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'}
