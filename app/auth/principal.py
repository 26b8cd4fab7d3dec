"""Who asks, once the token is verified. Every statement is bound to one of these."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified user, who sees only the user's own rows. `user_id` is the token's `sub`.

    `is_administrator` lets the user ask as an `Administrator`; the principal itself sees no more rows by it.
    """

    role: ClassVar[str] = "tasks_api"  # of the database
    user_id: str
    is_administrator: bool = False


@dataclass(frozen=True, slots=True)
class Administrator(Principal):
    """A verified administrator, who sees every user's rows, changes none, and is logged."""

    role: ClassVar[str] = "tasks_admin"
