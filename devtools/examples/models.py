"""What an example is: in its table, as its owner reads it, and as a client may write it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints
from sqlalchemy import BigInteger, DateTime, Identity, Index, Text, func, text
from sqlmodel import Field as Column
from sqlmodel import SQLModel
from typing_extensions import TypedDict

from app.web.body import Clean, RowBody
from app.web.paging import Page
from app.web.params import Flag

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Clean]
Description = Annotated[str, StringConstraints(max_length=10_000), Clean]
SearchText = Annotated[str, StringConstraints(min_length=1, max_length=200), Clean]
NOW = {"server_default": func.now()}


class Example(SQLModel, table=True):
    """The table."""

    __tablename__ = "example"
    __table_args__ = (
        Index("example_user_id", "user_id"),
        Index("example_completed", "completed"),
        Index("example_user_id_completed", "user_id", "completed"),
        Index("example_user_id_id", "user_id", "id", unique=True),  # for pages, and for a child of it
        Index(
            "example_idempotency_key",
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    id: int = Column(sa_type=BigInteger, primary_key=True, sa_column_args=[Identity(always=True)])
    user_id: str = Column(sa_type=Text)
    title: str = Column(sa_type=Text)
    description: str | None = Column(sa_type=Text)
    completed: bool
    created_at: datetime = Column(sa_type=DateTime(timezone=True), sa_column_kwargs=NOW)
    updated_at: datetime = Column(sa_type=DateTime(timezone=True), sa_column_kwargs=NOW)
    version: int = Column(sa_column_kwargs={"server_default": "1"})
    idempotency_key: str | None = Column(sa_type=Text)
    idempotency_hash: bytes | None


class ExampleRead(TypedDict):
    """An example as its owner reads it."""

    id: int
    title: str
    description: str | None
    completed: bool
    user_id: str
    created_at: datetime
    updated_at: datetime


class ExampleCreate(RowBody):
    """A new example."""

    title: Title
    description: Description | None = None
    completed: bool = False


class ExampleReplace(RowBody):
    """A whole example: every field is required, so that nothing is reset by being left out."""

    title: Title
    description: Description | None
    completed: bool


class ExamplePatch(RowBody):
    """Any part of an example; null clears the description."""

    # Factories: what is left out is never read, and a plain default would stand in the document.
    title: Annotated[Title, Field(default_factory=str)]
    description: Description | None = None
    completed: Annotated[bool, Field(default_factory=bool)]


class ExampleCompletion(RowBody):
    """Done, or not done after all."""

    completed: bool = True


class ExampleQuery(Page):
    """Which examples, in which order."""

    completed: Flag | None = None
    q: Annotated[SearchText | None, Field(description="Part of title or description.")] = None
    order: Literal["newest", "oldest"] = "newest"
