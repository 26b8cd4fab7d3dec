"""Every statement about examples. A store is bound to a user, and none of its methods can reach another's rows."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import bindparam, delete, or_, select, update

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.db.store import Found, FoundPage, Listing, Store, at_version, insert_once, like_pattern
from app.errors import NotFound
from devtools.examples.models import Example, ExampleCreate, ExampleQuery

EXAMPLE = Example.metadata.tables["example"]
c = EXAMPLE.c
READ = (c.id, c.title, c.description, c.completed, c.user_id, c.created_at, c.updated_at)

OWN = c.user_id == bindparam("owner")
ONE = (OWN, c.id == bindparam("example_id"))

LIST = Listing(
    select(*READ).where(OWN),
    c.id,
    completed=c.completed == bindparam("completed"),
    pattern=or_(c.title.ilike(bindparam("pattern")), c.description.ilike(bindparam("pattern"))),
)
GET = select(*READ, c.version).where(*ONE)
GET_BY_KEY = select(*READ, c.version, c.idempotency_hash).where(OWN, c.idempotency_key == bindparam("idempotency_key"))
CREATE = insert_once(EXAMPLE).returning(*READ, c.version)
CHANGE = update(EXAMPLE).where(*ONE, at_version(c.version)).returning(*READ, c.version)
DELETE = delete(EXAMPLE).where(*ONE, at_version(c.version)).returning(c.id)


class ExampleNotFound(NotFound):
    """Never was, is gone, or is another user's."""

    code, detail = "example_not_found", "There is no such example."


class ExampleStore(Store):
    """The examples of one user. `versions` are those that a change may start from; None for any."""

    not_found = ExampleNotFound

    def page(self, query: ExampleQuery) -> FoundPage:
        """Return one page of the user's examples."""
        filters = {"completed": query.completed, "pattern": like_pattern(query.q), "cursor": query.cursor}
        return self.read_page(LIST, query.order, query.limit, **filters)

    def create(self, example: ExampleCreate, key: str | None = None) -> Found:
        """Insert an example that belongs to the user, once for each `key`."""
        return self.insert_once(CREATE, GET_BY_KEY, example, key)

    def get(self, example_id: int) -> Found:
        """Return one of the user's examples."""
        return self.read_one(GET, example_id=example_id)

    def change(self, example_id: int, values: Mapping[str, Any], versions: list[int] | None = None) -> Found:
        """Set some fields of one of the user's examples; values that stand there already change nothing."""
        return self.update_one(CHANGE, GET, values, example_id=example_id, versions=versions)

    def delete(self, example_id: int, versions: list[int] | None = None) -> None:
        """Delete one of the user's examples."""
        self.delete_one(DELETE, GET, example_id=example_id, versions=versions)


async def example_store(database: CurrentDatabase, user: CurrentUser) -> ExampleStore:
    """Return the store of the request's user."""
    return ExampleStore(database, user)


Examples = Annotated[ExampleStore, Depends(example_store)]
