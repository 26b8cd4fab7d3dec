"""What a token says of its user beside the id. A claim of your own is a field of `Claims`."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

MAX_BYTES = 1024  # of all claims that are read, as JSON: a principal is kept as long as its token


def _split(names: Any) -> Any:
    """Return the names of a text that Better Auth's admin plugin wrote, with commas between them."""
    return [name for name in names.split(",") if name] if isinstance(names, str) else names


Names = Annotated[frozenset[str], Field(strict=False, max_length=64), BeforeValidator(_split)]
"""A claim that is a list of names, or a text with commas between them: `["user", "admin"]` or `"user,admin"`."""

Id = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{1,64}$")]
"""An opaque id, as Better Auth makes them."""


class Claims(BaseModel):
    """The claims that the application reads, each by its own name; `Field(alias="…")` reads another one.

    Give each a default, for a token may lack it or say null. One of another type makes the token invalid. Choose types
    that cannot change (a `frozenset`, no `list`): all requests with a token share them.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, strict=True)

    role: Names = frozenset()  # `admin` among them makes an administrator
    org_id: Id | None = None  # whose rows the user shares, in tables with protect(…, by="org_id")

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show no value, wherever a principal is printed."""
        return []


class WrongClaim(ValueError):
    """A claim is of another type, or too large; the message names it and not its value."""


def claim_names() -> list[str]:
    """Return the names of the claims that the application reads, as tokens have them."""
    return [str(field.validation_alias or name) for name, field in Claims.model_fields.items()]


def read_claims(payload: Mapping[str, Any]) -> Claims:
    """Return the claims of a verified token, or raise WrongClaim."""
    found = {name: payload[name] for name in claim_names() if payload.get(name) is not None}
    try:
        sizes = {name: len(json.dumps(value)) for name, value in found.items()}
        if sum(sizes.values()) > MAX_BYTES:
            raise WrongClaim(f"the claim {max(sizes, key=sizes.__getitem__)} is too large")
        return Claims.model_validate_json(json.dumps(found))  # strict: as JSON, a list may be a tuple, a text a date
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = first["loc"][0] if first["loc"] else " or ".join(found)
        raise WrongClaim(f"the claim {name} is not as Claims has it ({first['type']})") from None
    except RecursionError:
        raise WrongClaim(f"the claim {' or '.join(found)} is nested too deeply") from None
