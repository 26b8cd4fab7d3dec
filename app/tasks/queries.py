"""Every statement about tasks. A store is bound to a principal, and none of its methods can reach another's rows."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, Never, cast

from fastapi import Depends
from sqlalchemy import ARRAY, Executable, Integer, Row, any_, bindparam, case, delete, false, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from app.auth import CurrentUser, Principal
from app.db import CurrentDatabase, Database
from app.errors import DatabaseBusy, NotFound
from app.tasks.models import Task, TaskCreate, TaskQuery, TaskRead
from app.web.etags import PreconditionFailed
from app.web.idempotency import IdempotencyKeyReused, digest

ID, OWNER, TITLE, DESCRIPTION = col(Task.id), col(Task.user_id), col(Task.title), col(Task.description)
COMPLETED, CREATED_AT, UPDATED_AT = col(Task.completed), col(Task.created_at), col(Task.updated_at)
VERSION, KEY, HASH = col(Task.version), col(Task.idempotency_key), col(Task.idempotency_hash)
READ = (ID, TITLE, DESCRIPTION, COMPLETED, OWNER, CREATED_AT, UPDATED_AT)  # columns: an entity costs twice as much
WRITABLE = {"title": TITLE, "description": DESCRIPTION, "completed": COMPLETED}

OWN = OWNER == bindparam("owner")
ONE = (OWN, ID == bindparam("task_id"))
UNCHANGED = VERSION == any_(bindparam("versions", type_=ARRAY(Integer)))

# Each statement names the method that runs it, for the span: a walk up the stack would cost more than the name.
STORE = f"{__name__}.TaskStore"
GET = select(*READ, VERSION).where(*ONE).execution_options(function=f"{STORE}.get")
GET_BY_KEY = (
    select(*READ, VERSION, HASH)
    .where(OWN, KEY == bindparam("idempotency_key"))
    .execution_options(function=f"{STORE}.create")
)
CREATE = (
    insert(Task)
    .values(user_id=bindparam("owner"))
    .on_conflict_do_nothing(index_elements=[OWNER, KEY], index_where=KEY.is_not(None))
    .returning(*READ, VERSION)
    .execution_options(function=f"{STORE}.create")
)
DELETE = delete(Task).where(*ONE).returning(ID).execution_options(function=f"{STORE}.delete")
DELETE_UNCHANGED = DELETE.where(UNCHANGED)


class TaskNotFound(NotFound):
    """Never was, is gone, or is another user's."""

    code, detail = "task_not_found", "There is no such task."


class Found(NamedTuple):
    """A task, its version, and whether an earlier request with the same Idempotency-Key made it."""

    task: TaskRead
    version: int
    replayed: bool = False


class TaskStore:
    """The tasks of one user. `versions` are those that a change may start from; None for any."""

    def __init__(self, database: Database, principal: Principal) -> None:
        self._database, self._principal = database, principal

    def page(self, query: TaskQuery) -> tuple[list[TaskRead], int | None]:
        """Return one page of the user's tasks, and the last id on it where more follow."""
        filters = {"completed": query.completed, "cursor": query.cursor, "pattern": like(query.q)}
        given = {name: value for name, value in filters.items() if value is not None}
        rows = self._run(page_statement(query.order, tuple(given)), **given, page_limit=query.limit + 1)
        tasks = [cast(TaskRead, row._asdict()) for row in rows[: query.limit]]
        return tasks, tasks[-1]["id"] if len(rows) > query.limit else None

    def create(self, task: TaskCreate, key: str | None = None) -> Found:
        """Insert a task that belongs to the user, once for each `key`.

        Raises:
            IdempotencyKeyReused: the key has made a task from another body.
            DatabaseBusy: the task that won the key was deleted in the same moment.

        """
        made_from = digest(task) if key else None
        rows = self._run(CREATE, **task.model_dump(), idempotency_key=key, idempotency_hash=made_from)
        return found(rows[0]) if rows else self._made_before(key, made_from)

    def _made_before(self, key: str | None, made_from: bytes | None) -> Found:
        rows = self._run(GET_BY_KEY, idempotency_key=key)
        if not rows:
            raise DatabaseBusy
        if bytes(rows[0].idempotency_hash) != made_from:
            raise IdempotencyKeyReused
        return found(rows[0], replayed=True)

    def get(self, task_id: int) -> Found:
        """Return one of the user's tasks.

        Raises:
            TaskNotFound: the user has none with this id.

        """
        rows = self._run(GET, task_id=task_id)
        if not rows:
            raise TaskNotFound
        return found(rows[0])

    def change(self, task_id: int, values: Mapping[str, Any], versions: list[int] | None = None) -> Found:
        """Set some fields of one of the user's tasks; values that stand there already change nothing.

        Raises:
            TaskNotFound: the user has none with this id.
            PreconditionFailed: it is at none of the `versions`.

        """
        new = {f"new_{field}": value for field, value in values.items()}
        statement = change_statement(tuple(values), if_unchanged=versions is not None)
        rows = self._run(statement, task_id=task_id, versions=versions, **new)
        return found(rows[0]) if rows else self._refuse(task_id)

    def delete(self, task_id: int, versions: list[int] | None = None) -> None:
        """Delete one of the user's tasks.

        Raises:
            TaskNotFound: the user has none with this id.
            PreconditionFailed: it is at none of the `versions`.

        """
        statement = DELETE if versions is None else DELETE_UNCHANGED
        if not self._run(statement, task_id=task_id, versions=versions):
            self._refuse(task_id)

    def _refuse(self, task_id: int) -> Never:
        """Tell a task that is not there from one that has changed."""
        self.get(task_id)
        raise PreconditionFailed

    def _run(self, statement: Executable, **parameters: Any) -> Sequence[Row[Any]]:
        return self._database.execute(self._principal, statement, {**parameters, "owner": self._principal.user_id})


def found(row: Row[Any], *, replayed: bool = False) -> Found:
    """Return what a row of READ and VERSION holds."""
    columns = row._asdict()
    columns.pop("idempotency_hash", None)
    version = columns.pop("version")
    return Found(cast(TaskRead, columns), version, replayed)


@cache
def page_statement(order: str, filters: tuple[str, ...]) -> Executable:
    """Return the statement of one shape of list; there are few, and each is built once."""
    oldest = order == "oldest"
    where = {
        "completed": COMPLETED == bindparam("completed"),
        "cursor": bindparam("cursor") < ID if oldest else bindparam("cursor") > ID,
        "pattern": or_(TITLE.ilike(bindparam("pattern")), DESCRIPTION.ilike(bindparam("pattern"))),
    }
    statement = select(*READ).where(OWN, *(where[name] for name in filters))
    statement = statement.order_by(ID.asc() if oldest else ID.desc()).limit(bindparam("page_limit"))
    return statement.execution_options(function=f"{STORE}.page")


@cache
def change_statement(fields: tuple[str, ...], *, if_unchanged: bool) -> Executable:
    """Return the statement that sets `fields`; version and `updated_at` move only where one of them differs."""
    new: dict[str, Any] = {field: bindparam(f"new_{field}") for field in fields}
    differs = or_(false(), *(WRITABLE[field].is_distinct_from(value) for field, value in new.items()))
    new["updated_at"] = case((differs, func.now()), else_=UPDATED_AT)
    new["version"] = VERSION + case((differs, 1), else_=0)
    statement = update(Task).where(*ONE).values(new).returning(*READ, VERSION)
    statement = statement.execution_options(function=f"{STORE}.change")
    return statement.where(UNCHANGED) if if_unchanged else statement


def like(text: str | None) -> str | None:
    """Return the LIKE pattern of whatever holds `text`, in which `%`, `_` and the backslash stand for themselves."""
    if text is None:
        return None
    return "%" + text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"


async def task_store(database: CurrentDatabase, user: CurrentUser) -> TaskStore:
    """Return the store of the user who asks."""
    return TaskStore(database, user)


Tasks = Annotated[TaskStore, Depends(task_store)]
