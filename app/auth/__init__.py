"""Who asks: the bearer token of a request, verified, as a `Principal`.

`authenticator` reads the header, `tokens` checks the token, `claims` has what it says, `requirements` what for, and
`key_set` keeps the public keys of BETTER_AUTH_URL.
"""

from app.auth.authenticator import CurrentUser
from app.auth.claims import Claims
from app.auth.requirements import CurrentAdministrator, CurrentMember, require
from app.auth.tokens import Administrator, Principal

__all__ = ["Administrator", "Claims", "CurrentAdministrator", "CurrentMember", "CurrentUser", "Principal", "require"]
