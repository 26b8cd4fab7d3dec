"""Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a POST that may be sent again."""

import re
from typing import Annotated

from fastapi import Depends, Header, Request

from app.errors import InvalidRequest

_KEY = re.compile(r"[!-~]{1,255}")


async def idempotency_key(
    request: Request,
    idempotency_key: Annotated[str | None, Header(description="1 to 255 visible ASCII characters.")] = None,
) -> str | None:
    """Return the request's one key; a quoted one (RFC 8941, 3.3.3) is the same as a bare one."""
    if idempotency_key is None:
        return None
    key = idempotency_key.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = re.sub(r"\\(.)", r"\1", key[1:-1])
    if not _KEY.fullmatch(key) or len(request.headers.getlist("idempotency-key")) > 1:
        message = "must be one key of 1 to 255 visible ASCII characters"
        raise InvalidRequest(errors=[{"pointer": "/header/idempotency-key", "message": message}])
    return key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
