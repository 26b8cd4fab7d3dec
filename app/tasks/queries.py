"""Every statement about tasks. A store is bound to a principal, and none of its methods can reach another's rows."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, cast

from fastapi import Depends
from sqlalchemy import Executable, bindparam, case, delete, func, insert, or_, select, update
from sqlmodel import col

from app.auth import CurrentUser, Principal
from app.db import CurrentDatabase, Database
from app.errors import NotFound
from app.tasks.models import Task, TaskCreate, TaskQuery, TaskRead

ID, OWNER, TITLE, DESCRIPTION = col(Task.id), col(Task.user_id), col(Task.title), col(Task.description)
COMPLETED, CREATED_AT, UPDATED_AT = col(Task.completed), col(Task.created_at), col(Task.updated_at)
READ = (ID, TITLE, DESCRIPTION, COMPLETED, OWNER, CREATED_AT, UPDATED_AT)  # columns: an entity costs twice as much
WRITABLE = {"title": TITLE, "description": DESCRIPTION, "completed": COMPLETED}

OWN = bindparam("owner") == OWNER
ONE = (OWN, bindparam("task_id") == ID)

# Each statement names the method that runs it, for the span: a walk up the stack would cost more than the name.
STORE = f"{__name__}.TaskStore"
GET = select(*READ).where(*ONE).execution_options(function=f"{STORE}.get")
CREATE = insert(Task).values(user_id=bindparam("owner")).returning(*READ).execution_options(function=f"{STORE}.create")
DELETE = delete(Task).where(*ONE).returning(*READ).execution_options(function=f"{STORE}.delete")


class TaskNotFound(NotFound):
    """Never was, is gone, or is another user's."""

    code, detail = "task_not_found", "There is no such task."


class TaskStore:
    """The tasks of one user."""

    def __init__(self, database: Database, principal: Principal) -> None:
        self._database, self._principal = database, principal

    def page(self, query: TaskQuery) -> tuple[list[TaskRead], int | None]:
        """Return one page of the user's tasks, and the last id on it where more follow."""
        filters = {"completed": query.completed, "cursor": query.cursor, "pattern": like(query.q)}
        given = {name: value for name, value in filters.items() if value is not None}
        tasks = self._run(page_statement(query.order, tuple(given)), **given, page_limit=query.limit + 1)
        more = len(tasks) > query.limit
        return tasks[: query.limit], tasks[query.limit - 1]["id"] if more else None

    def create(self, task: TaskCreate) -> TaskRead:
        """Insert a task that belongs to the user."""
        return self._one(CREATE, **task.model_dump())

    def get(self, task_id: int) -> TaskRead:
        """Return one of the user's tasks.

        Raises:
            TaskNotFound: the user has none with this id.

        """
        return self._one(GET, task_id=task_id)

    def change(self, task_id: int, values: Mapping[str, Any]) -> TaskRead:
        """Set some fields of one of the user's tasks; values that stand there already change nothing.

        Raises:
            TaskNotFound: the user has none with this id.

        """
        if not values:
            return self.get(task_id)
        new = {f"new_{field}": value for field, value in values.items()}
        return self._one(change_statement(tuple(values)), task_id=task_id, **new)

    def delete(self, task_id: int) -> None:
        """Delete one of the user's tasks.

        Raises:
            TaskNotFound: the user has none with this id.

        """
        self._one(DELETE, task_id=task_id)

    def _one(self, statement: Executable, **parameters: Any) -> TaskRead:
        tasks = self._run(statement, **parameters)
        if not tasks:
            raise TaskNotFound
        return tasks[0]

    def _run(self, statement: Executable, **parameters: Any) -> list[TaskRead]:
        parameters["owner"] = self._principal.user_id
        rows = self._database.execute(self._principal, statement, parameters)
        return [cast(TaskRead, row._asdict()) for row in rows]


@cache
def page_statement(order: str, filters: tuple[str, ...]) -> Executable:
    """Return the statement of one shape of list; there are few, and each is built once."""
    oldest = order == "oldest"
    where = {
        "completed": bindparam("completed") == COMPLETED,
        "cursor": bindparam("cursor") < ID if oldest else bindparam("cursor") > ID,
        "pattern": or_(TITLE.ilike(bindparam("pattern")), DESCRIPTION.ilike(bindparam("pattern"))),
    }
    statement = select(*READ).where(OWN, *(where[name] for name in filters))
    statement = statement.order_by(ID.asc() if oldest else ID.desc()).limit(bindparam("page_limit"))
    return statement.execution_options(function=f"{STORE}.page")


@cache
def change_statement(fields: tuple[str, ...]) -> Executable:
    """Return the statement that sets `fields`; `updated_at` moves only where one of them differs."""
    new: dict[str, Any] = {field: bindparam(f"new_{field}") for field in fields}
    differs = or_(*(WRITABLE[field].is_distinct_from(value) for field, value in new.items()))
    moved = case((differs, func.now()), else_=UPDATED_AT)
    statement = update(Task).where(*ONE).values(**new, updated_at=moved).returning(*READ)
    return statement.execution_options(function=f"{STORE}.change")


def like(text: str | None) -> str | None:
    """Return the LIKE pattern of whatever holds `text`, in which `%`, `_` and the backslash stand for themselves."""
    if text is None:
        return None
    return "%" + text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"


async def task_store(database: CurrentDatabase, user: CurrentUser) -> TaskStore:
    """Return the store of the user who asks."""
    return TaskStore(database, user)


Tasks = Annotated[TaskStore, Depends(task_store)]
