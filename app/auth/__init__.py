"""Who asks: the bearer token of a request, verified, as a `Principal`.

`dependencies` is what endpoints ask for, `authenticator` reads the header, `tokens` checks the token, `key_set` keeps
the public keys of BETTER_AUTH_URL.
"""

from app.auth.dependencies import CurrentAdministrator, CurrentUser
from app.auth.principal import Administrator, Principal

__all__ = ["Administrator", "CurrentAdministrator", "CurrentUser", "Principal"]
