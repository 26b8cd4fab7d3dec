"""Who asks: the bearer token of a request, verified, as a `Principal`.

`authenticator` reads the header and has the dependencies of endpoints, `tokens` checks the token, `key_set` keeps the
public keys of BETTER_AUTH_URL.
"""

from app.auth.authenticator import CurrentAdministrator, CurrentUser
from app.auth.tokens import Administrator, Principal

__all__ = ["Administrator", "CurrentAdministrator", "CurrentUser", "Principal"]
