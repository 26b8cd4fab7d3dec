"""The baseline: the same packages, each used as its own README or tutorial says, and nothing made slower.

`uvicorn benchmarks.textbook:app`; OBSERVE=1 turns on traces, metrics and limits; uvicorn's access log is its log.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query, Request, UploadFile
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_fastapi_instrumentator import Instrumentator
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from sqlalchemy import DateTime, text
from sqlmodel import Field, Session, SQLModel, col, create_engine, select

OBSERVE = os.environ.get("OBSERVE") == "1"
SECRET = os.environ["BETTER_AUTH_SECRET"]

engine = create_engine(os.environ["DATABASE_URL"], pool_size=8, max_overflow=0)


class ExampleBase(SQLModel):
    """What a client may write."""

    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=10_000)
    completed: bool = False


class Example(ExampleBase, table=True):
    """The table."""

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC), sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=lambda: datetime.now(UTC), sa_type=DateTime(timezone=True))


class ExamplePublic(ExampleBase):
    """What a client reads."""

    id: int
    user_id: str
    created_at: datetime
    updated_at: datetime


def get_session() -> Iterator[Session]:
    """https://sqlmodel.tiangolo.com/tutorial/fastapi/session-with-dependency/."""
    with Session(engine) as session:
        yield session


async def get_current_user(credentials: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    """https://fastapi.tiangolo.com/tutorial/security/oauth2-jwt/."""
    try:
        payload = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Could not validate credentials") from None
    user: str = payload["sub"]
    return user


SessionDep = Annotated[Session, Depends(get_session)]
CurrentUser = Annotated[str, Depends(get_current_user)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Create the table if it is missing."""
    SQLModel.metadata.create_all(engine)
    yield


app = FastAPI(lifespan=lifespan)
limiter = Limiter(key_func=get_remote_address)
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)  # type: ignore[arg-type]  # as slowapi's README


def limited(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """https://slowapi.readthedocs.io/en/latest/#fastapi, with a limit that nothing reaches."""
    decorated: Callable[..., Any] = limiter.limit("1000000000/minute")(endpoint) if OBSERVE else endpoint
    return decorated


@app.get("/api/examples", response_model=list[ExamplePublic])
@limited
def list_examples(
    request: Request,  # noqa: ARG001  slowapi wants it
    session: SessionDep,
    user: CurrentUser,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    q: str | None = None,
) -> Any:
    """List the user's newest examples."""
    own = select(Example).where(Example.user_id == user)
    if q:
        own = own.where(col(Example.title).icontains(q) | col(Example.description).icontains(q))
    return session.exec(own.order_by(col(Example.id).desc()).limit(limit)).all()


@app.post("/api/examples", response_model=ExamplePublic, status_code=201)
@limited
def create_example(request: Request, example: ExampleBase, session: SessionDep, user: CurrentUser) -> Any:  # noqa: ARG001
    """Create an example."""
    made = Example.model_validate(example, update={"user_id": user})
    session.add(made)
    session.commit()
    session.refresh(made)
    return made


@app.get("/api/examples/{example_id}", response_model=ExamplePublic)
@limited
def get_example(request: Request, example_id: int, session: SessionDep, user: CurrentUser) -> Any:  # noqa: ARG001
    """Read an example."""
    example = session.exec(select(Example).where(Example.id == example_id, Example.user_id == user)).first()
    if example is None:
        raise HTTPException(404, "Example not found")
    return example


class Note(SQLModel):
    """A body of many lines."""

    lines: list[str]


@app.post("/api/team/bodies")
@limited
def read_body(request: Request, note: Note, user: CurrentUser) -> dict[str, int]:  # noqa: ARG001
    """Count the lines of a body."""
    return {"lines": len(note.lines)}


@app.post("/api/team/uploads")
@limited
async def read_upload(request: Request, file: UploadFile, user: CurrentUser) -> dict[str, int]:  # noqa: ARG001
    """https://fastapi.tiangolo.com/tutorial/request-files/."""
    return {"bytes": len(await file.read())}


@app.get("/health")
def health(session: SessionDep) -> dict[str, str]:
    """Check the database."""
    session.execute(text("SELECT 1"))
    return {"status": "healthy"}


if OBSERVE:
    provider = TracerProvider(resource=Resource.create({"service.name": "textbook"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    FastAPIInstrumentor.instrument_app(app)
    # Without `skip_dep_check` it would refuse SQLAlchemy 2.1, and trace nothing.
    SQLAlchemyInstrumentor().instrument(engine=engine, skip_dep_check=True)
    Instrumentator().instrument(app).expose(app)
