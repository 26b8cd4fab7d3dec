"""What a task is: in its table, as its owner reads it, and as a client may write it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from sqlalchemy import BigInteger, Column, DateTime, Identity, Index, Integer, func, text
from sqlalchemy import Text as TextColumn
from sqlmodel import Field as ColumnField
from sqlmodel import SQLModel
from typing_extensions import TypedDict

from app.web.body import Body, Clean, ReadOnly
from app.web.paging import Page
from app.web.params import Flag

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Clean]
Description = Annotated[str, StringConstraints(max_length=10_000), Clean]
SearchText = Annotated[str, StringConstraints(min_length=1, max_length=200), Clean]


class Task(SQLModel, table=True):
    """The table."""

    __tablename__ = "task"
    __table_args__ = (
        Index("task_user_id", "user_id"),
        Index("task_completed", "completed"),
        Index("task_user_id_completed", "user_id", "completed"),
        Index("task_user_id_id", "user_id", "id", unique=True),  # for pages, and for what refers to a task of a user
        Index(
            "task_idempotency_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    id: int = ColumnField(sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    user_id: str = ColumnField(sa_type=TextColumn)
    title: str = ColumnField(sa_type=TextColumn)
    description: str | None = ColumnField(sa_type=TextColumn)
    completed: bool
    created_at: datetime = ColumnField(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    updated_at: datetime = ColumnField(
        sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    version: int = ColumnField(sa_column=Column(Integer, nullable=False, server_default="1"))
    idempotency_key: str | None = ColumnField(sa_type=TextColumn)
    idempotency_hash: bytes | None


class TaskRead(TypedDict):
    """A task as its owner reads it."""

    id: int
    title: str
    description: str | None
    completed: bool
    user_id: str
    created_at: datetime
    updated_at: datetime


class TaskBody(Body):
    """What every body about a task may hold besides its own fields: what was read can be edited and sent back."""

    id: ReadOnly = None
    user_id: ReadOnly = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


class TaskCreate(TaskBody):
    """A new task."""

    title: Title
    description: Description | None = None
    completed: bool = False


class TaskReplace(TaskBody):
    """A whole task: every field is required, so that nothing is reset by being left out."""

    title: Title
    description: Description | None
    completed: bool


class TaskPatch(TaskBody):
    """Any part of a task; null clears the description."""

    # Factories: what is left out is never read, and a plain default would stand in the document.
    title: Annotated[Title, Field(default_factory=str)]
    description: Description | None = None
    completed: Annotated[bool, Field(default_factory=bool)]


class TaskCompletion(TaskBody):
    """Done, or not done after all."""

    completed: bool = True


class TaskQuery(Page):
    """Which tasks, in which order."""

    completed: Flag | None = None
    q: Annotated[SearchText | None, Field(description="Part of title or description.")] = None
    order: Literal["newest", "oldest"] = "newest"
