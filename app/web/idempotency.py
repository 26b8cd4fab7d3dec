"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a POST that may be sent again."""

import hashlib
import re
from typing import Annotated

from fastapi import Depends, Header, Request
from pydantic import BaseModel

from app.errors import AppError, InvalidRequest

_KEY = re.compile(r"[!-~]{1,255}")


class IdempotencyKeyReused(AppError):
    """The key belongs to another request of this user."""

    status, code, detail = 422, "idempotency_key_reused", "This Idempotency-Key was used with another body."


async def idempotency_key(
    request: Request,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 visible ASCII characters.")] = None,
) -> str | None:
    """Return the request's key; a quoted one (RFC 8941, 3.3.3) is the same as a bare one.

    Raises:
        InvalidRequest: several keys, or one that is none.

    """
    if idempotency_key is None:
        return None
    key = idempotency_key.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if not _KEY.fullmatch(key) or len(request.headers.getlist("idempotency-key")) > 1:
        message = "must be one key of 1 to 255 visible ASCII characters"
        raise InvalidRequest(errors=[{"pointer": "/header/idempotency-key", "message": message}])
    return key


def digest(body: BaseModel) -> bytes:
    """Return the hash of a validated body: the same for all spellings of the same request."""
    return hashlib.sha256(body.model_dump_json().encode()).digest()


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
