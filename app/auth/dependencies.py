"""Who asks, for endpoints: `CurrentUser` and `CurrentAdministrator`."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from app.auth.principal import Administrator, Principal
from app.auth.tokens import Unauthenticated
from app.errors import Forbidden
from app.record import Record, current


async def admit(record: Record, request: Request) -> None:
    """Let in a verified user who is within the limits, as the record's principal.

    Raises:
        Unauthenticated: there is no good token.
        RateLimited: too many requests of this user, or too many without a good token from this address.
    """
    state = record.app.state
    try:
        record.principal = await state.authenticator(request.headers)
    except Unauthenticated as failure:
        state.limits.refuse(record, request, failure)
        raise
    await state.limits.admit(record)


class Bearer(SecurityBase):
    """The user who asks. Under /api the gate has admitted the request before; on another route this does.

    As a security scheme it also stands in the OpenAPI document.
    """

    model = HTTPBearer(bearerFormat="JWT", description="A Better Auth access token.")
    scheme_name = "betterAuth"

    async def __call__(self, request: Request) -> Principal:
        record = current()
        if record.principal is None:
            await admit(record, request)
        principal: Principal = record.principal
        return principal


current_user = Bearer()
CurrentUser = Annotated[Principal, Depends(current_user)]


async def current_administrator(user: CurrentUser) -> Administrator:
    """Return the user as an administrator, or raise Forbidden if the token does not say that this is one."""
    if not user.is_administrator:
        raise Forbidden
    return Administrator(user.user_id, is_administrator=True)


CurrentAdministrator = Annotated[Administrator, Depends(current_administrator)]
