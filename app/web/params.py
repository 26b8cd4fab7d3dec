"""Parameters of path and query: one spelling each, so that a URL means one thing."""

import re
from typing import Annotated

from fastapi import Path
from pydantic import BeforeValidator, Field, WithJsonSchema

from app.errors import NotFound

MAX_BIGINT = 2**63 - 1
_DIGITS = re.compile(r"[1-9][0-9]{0,18}")


def _id(text: object) -> int:
    if not isinstance(text, str) or not _DIGITS.fullmatch(text) or int(text) > MAX_BIGINT:
        raise NotFound
    return int(text)


def _whole(text: object) -> object:
    if isinstance(text, str) and not _DIGITS.fullmatch(text):
        raise ValueError("must be a whole number in decimal digits")
    return int(text) if isinstance(text, str) else text


def _flag(text: object) -> object:
    if isinstance(text, str) and text not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text == "true" if isinstance(text, str) else text


Id = Annotated[int, Path(ge=1, le=MAX_BIGINT), BeforeValidator(_id)]
"""A bigint in a path; what cannot be one names nothing, which is a 404."""

QueryId = Annotated[int, Field(ge=1, le=MAX_BIGINT), BeforeValidator(_whole)]
"""A bigint in a query."""

Limit = Annotated[int, Field(ge=1, le=100, description="How many at most."), BeforeValidator(_whole)]
"""A length of a page: no sign, point, exponent, underscore or leading zero."""

Flag = Annotated[bool, BeforeValidator(_flag), WithJsonSchema({"type": "boolean"})]
"""`true` or `false`, spelled so."""
