"""What is done to the application itself: middleware, overrides, handlers, mounts, lifespans, later inclusions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.fastapi.case import ASPECTS, Case, Routes, note

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="none")


class UnicornError(Exception):
    pass


class Witness:
    """A team's own middleware: it sees the request whole, and what it adds reaches the endpoint."""

    def __init__(self, app: ASGIApp, word: str) -> None:
        self.app, self.word = app, word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            note(f"witness: {headers.get(b'authorization', b'')[:7]!r} {scope['query_string']!r}")
            REQUEST_ID.set("of the middleware")
            scope.setdefault("state", {})["word"] = self.word
            scope["headers"] = [*scope["headers"], (b"x-added", b"by the middleware")]
        await self.app(scope, receive, send)


async def timed(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    note(f"before {request.url.query}")
    response = await call_next(request)
    note("after")
    response.headers["X-Process"] = "timed"
    return response


async def unicorn(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": f"{request.url.path}: {error}"}, 418)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    app.state.opened = "by the application"
    yield {"given": "by the application"}


@asynccontextmanager
async def router_lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.router = "by the router"
    yield


def original() -> str:
    note("original")
    return "original"


def replaced(x_added: Annotated[str, Header()] = "") -> str:
    note("replaced")
    return f"replaced {x_added}"


def kept(value: Annotated[str, Depends(original)]) -> str:
    return f"kept {value}"


routes = Routes("/api/app", "application", lifespan=router_lifespan)
router = routes.router
late = Routes("/api/late", "application", dependencies=[Depends(kept)])
public = Routes("/public", "application")


@routes.get("/large")
def large() -> Any:
    return ["compressed"] * 1000


@routes.get("/seen")
async def seen(x_added: Annotated[str, Header()], request: Request, q: str = "") -> Any:
    note(request.headers["authorization"][:6])
    return [x_added, request.state.word, q]


@routes.get("/context")
def context() -> Any:
    return REQUEST_ID.get()


@routes.get("/context-async")
async def context_async() -> Any:
    return REQUEST_ID.get()


@routes.get("/state")
def state(request: Request) -> Any:
    return [request.app.state.shared, request.app.state.opened, request.app.state.router, request.state.given]


@routes.get("/override")
def override(value: Annotated[str, Depends(kept)]) -> Any:
    return value


@routes.get("/override-async")
async def override_async(value: Annotated[str, Depends(original)]) -> Any:
    return value


@routes.get("/unicorn/{name}")
def raises_unicorn(name: str) -> Any:
    raise UnicornError(name)


@routes.get("/urls/{id}", name="url_of")
async def urls(id: int, request: Request) -> Any:
    return [str(request.url_for("url_of", id=id + 1)), str(request.base_url), str(request.url_for("sub", path="/x"))]


@routes.get("/refused")
def refused() -> Any:
    raise HTTPException(400, "Refused")


@late.get("/{id}")
def included_later(id: int) -> Any:
    return id


@public.get("/hello")
async def hello(name: str = "world") -> Any:
    return {"hello": name}


@public.post("/hello")
def say_hello(body: dict[str, str]) -> Any:
    return body


def sub_application() -> FastAPI:
    sub = FastAPI()

    @sub.get("/items/{id}")
    def read_sub(id: int, request: Request) -> Any:
        note("sub")
        return [id, request.scope["root_path"]]

    return sub


def furnish(app: FastAPI, route_class: type[APIRoute]) -> None:
    """Do to `app` what a team does once it has it."""
    app.state.shared = "by whoever made it"
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(Witness, word="a word")
    app.middleware("http")(timed)
    app.exception_handler(UnicornError)(unicorn)
    app.dependency_overrides[original] = replaced
    app.include_router(late.router(route_class))
    app.include_router(public.router(APIRoute))
    app.include_router(APIRouter(), prefix="/empty")
    app.get("/direct")(hello)
    app.mount("/sub", sub_application(), name="sub")
    app.mount("/static", StaticFiles(directory=Path(__file__).parent), name="static")


def direct(name: str, asked: str, compares: frozenset[str] = ASPECTS, **sent: Any) -> Case:
    method, path = asked.split(" ", 1)
    return Case(f"app: {name}", method, path, sent, compares, "application")


CASES = [
    routes.case("GZipMiddleware", "GET /large", headers={"Accept-Encoding": "gzip"}),
    routes.case("GZipMiddleware where it is not asked for", "GET /large"),
    routes.case("middleware sees and adds", "GET /seen?q=x%20y"),
    routes.case("middleware and a value at fault", "GET /urls/five5"),
    routes.case("a context variable of a middleware", "GET /context"),
    routes.case("a context variable of a middleware, on the loop", "GET /context-async"),
    routes.case("app.state and lifespans", "GET /state"),
    routes.case("dependency_overrides", "GET /override"),
    routes.case("dependency_overrides on the loop", "GET /override-async"),
    routes.case("exception_handler", "GET /unicorn/yolo"),
    routes.case("url_for", "GET /urls/5"),
    routes.case("middleware and a refusal", "GET /refused"),
    late.case("included after creation", "GET /5"),
    late.case("included after creation, at fault", "GET /fifth"),
    public.case("outside of /api", "GET /hello?name=x"),
    public.case("outside of /api, a body", "POST /hello", json={"a": "b"}),
    public.case("outside of /api, a body at fault", "POST /hello", json={"a": 1}),
    direct("a path operation of the application", "GET /direct?name=y"),
    direct("a mounted application", "GET /sub/items/3"),
    direct("a mounted application, no such path", "GET /sub/nothing", compares=frozenset({"status", "log"})),
    direct("static files", "GET /static/case.py"),
    direct("no such path", "GET /nowhere"),
]
