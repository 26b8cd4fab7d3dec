"""What a user may do: the dependencies that look at the claims of the token."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends

from app.auth.authenticator import CurrentUser
from app.auth.claims import Claims
from app.auth.tokens import Administrator, Principal
from app.errors import Forbidden

MANY = (frozenset, set, tuple, list)


@dataclass(frozen=True)
class Requirement:
    """Lets in users whose tokens have each of these claims: any value of it, or one of those that are named.

    Two that ask for the same are equal: `dependency_overrides[require(role="admin")]` replaces it in a test.
    """

    claims: tuple[tuple[str, frozenset[Any] | None], ...]

    async def __call__(self, user: CurrentUser) -> Principal:
        """Return the user, or raise Forbidden with the name of the first claim that is not as it must be."""
        for name, wanted in self.claims:
            claim = getattr(user.claims, name)
            held = claim if isinstance(claim, MANY) else (claim,)
            if not any(held):
                raise Forbidden(f"The token has no `{name}`.")
            if wanted is not None and not any(value == one for value in held for one in wanted):
                raise Forbidden(f"The token's `{name}` does not allow this.")
        return user


def require(*present: str, **wanted: Any) -> Requirement:
    """Return a dependency that gives the user, and answers 403 unless the token's claims are as it says.

    `require("org_id")` wants the claim, `require(role="admin")` this value of it, `require(role={"admin", "editor"})`
    one of these. Of a claim that is a list one value is enough. Claims have their names in `Claims`.

    Raises:
        TypeError: there is no such claim, or none is named.
    """
    names, known = {*present, *wanted}, set(Claims.model_fields)
    if not names or names - known:
        named, readable = ", ".join(sorted(names - known)) or "no claim", ", ".join(sorted(known))
        raise TypeError(f"require() names {named}: app/auth/claims.py has {readable}.")
    values = {name: frozenset(value if isinstance(value, MANY) else (value,)) for name, value in wanted.items()}
    return Requirement(tuple((name, values.get(name)) for name in sorted(names)))


async def current_administrator(user: Annotated[Principal, Depends(require(role="admin"))]) -> Administrator:
    """Return the user as an administrator, or raise Forbidden if the token names no such role."""
    return Administrator(user.user_id, user.claims)


CurrentAdministrator = Annotated[Administrator, Depends(current_administrator)]
CurrentMember = Annotated[Principal, Depends(require("org_id"))]
"""The user who asks, who has an organization; anybody else gets a 403."""
