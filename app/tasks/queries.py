"""Every statement about tasks. A store is bound to a user, and none of its methods can reach another's rows."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends
from sqlalchemy import bindparam, delete, or_, select, update

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.db.store import Found, FoundPage, Listing, Store, at_version, insert_once, like_pattern
from app.errors import NotFound
from app.tasks.models import Task, TaskCreate, TaskQuery

TASK = Task.metadata.tables["task"]
c = TASK.c
READ = (c.id, c.title, c.description, c.completed, c.user_id, c.created_at, c.updated_at)

OWN = c.user_id == bindparam("owner")
ONE = (OWN, c.id == bindparam("task_id"))

LIST = Listing(
    select(*READ).where(OWN),
    c.id,
    completed=c.completed == bindparam("completed"),
    pattern=or_(c.title.ilike(bindparam("pattern")), c.description.ilike(bindparam("pattern"))),
)
GET = select(*READ, c.version).where(*ONE)
GET_BY_KEY = select(*READ, c.version, c.idempotency_hash).where(OWN, c.idempotency_key == bindparam("idempotency_key"))
CREATE = insert_once(TASK).returning(*READ, c.version)
CHANGE = update(TASK).where(*ONE, at_version(c.version)).returning(*READ, c.version)
DELETE = delete(TASK).where(*ONE, at_version(c.version)).returning(c.id)


class TaskNotFound(NotFound):
    """Never was, is gone, or is another user's."""

    code, detail = "task_not_found", "There is no such task."


class TaskStore(Store):
    """The tasks of one user. `versions` are those that a change may start from; None for any."""

    not_found = TaskNotFound

    def page(self, query: TaskQuery) -> FoundPage:
        """Return one page of the user's tasks."""
        filters = {"completed": query.completed, "pattern": like_pattern(query.q), "cursor": query.cursor}
        return self.read_page(LIST, query.order, query.limit, **filters)

    def create(self, task: TaskCreate, key: str | None = None) -> Found:
        """Insert a task that belongs to the user, once for each `key`."""
        return self.insert_once(CREATE, GET_BY_KEY, task, key)

    def get(self, task_id: int) -> Found:
        """Return one of the user's tasks."""
        return self.read_one(GET, task_id=task_id)

    def change(self, task_id: int, values: Mapping[str, Any], versions: list[int] | None = None) -> Found:
        """Set some fields of one of the user's tasks; values that stand there already change nothing."""
        return self.update_one(CHANGE, GET, values, task_id=task_id, versions=versions)

    def delete(self, task_id: int, versions: list[int] | None = None) -> None:
        """Delete one of the user's tasks."""
        self.delete_one(DELETE, GET, task_id=task_id, versions=versions)


async def task_store(database: CurrentDatabase, user: CurrentUser) -> TaskStore:
    """Return the store of the request's user."""
    return TaskStore(database, user)


Tasks = Annotated[TaskStore, Depends(task_store)]
