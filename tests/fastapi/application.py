"""Changes of the application itself: middleware, overrides, handlers, mounts, lifespans, routers added later."""

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


class TeamMiddleware:
    """A team's own middleware: it sees all of the request, and the endpoint gets what it adds."""

    def __init__(self, app: ASGIApp, word: str) -> None:
        self.app, self.word = app, word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            note(f"middleware: {headers.get(b'authorization', b'')[:7]!r} {scope['query_string']!r}")
            REQUEST_ID.set("of the middleware")
            scope.setdefault("state", {})["word"] = self.word
            scope["headers"] = [*scope["headers"], (b"x-added", b"by the middleware")]
        await self.app(scope, receive, send)


async def add_header(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    note(f"before {request.url.query}")
    response = await call_next(request)
    note("after")
    response.headers["X-Process"] = "yes"
    return response


async def handle_unicorn(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"message": f"{request.url.path}: {error}"}, 418)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    app.state.from_lifespan = "of the application"
    yield {"yielded": "by the application"}


@asynccontextmanager
async def router_lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.router = "by the router"
    yield


def original() -> str:
    note("original")
    return "original"


def replacement(x_added: Annotated[str, Header()] = "") -> str:
    note("replacement")
    return f"replacement {x_added}"


def use_original(value: Annotated[str, Depends(original)]) -> str:
    return f"used {value}"


routes = Routes("/api/app", "application", lifespan=router_lifespan)
router = routes.router
late = Routes("/api/late", "application", dependencies=[Depends(use_original)])
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
    return [request.app.state.shared, request.app.state.from_lifespan, request.app.state.router, request.state.yielded]


@routes.get("/override")
def override(value: Annotated[str, Depends(use_original)]) -> Any:
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


def customise(app: FastAPI, route_class: type[APIRoute]) -> None:
    """Change `app` as a team does after create_app()."""
    app.state.shared = "by whoever made it"
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(TeamMiddleware, word="a word")
    app.middleware("http")(add_header)
    app.exception_handler(UnicornError)(handle_unicorn)
    app.dependency_overrides[original] = replacement
    app.include_router(late.router(route_class))
    app.include_router(public.router(APIRoute))
    app.include_router(APIRouter(), prefix="/empty")
    app.get("/direct")(hello)
    app.mount("/sub", sub_application(), name="sub")
    app.mount("/static", StaticFiles(directory=Path(__file__).parent), name="static")


def app_case(name: str, call: str, compares: frozenset[str] = ASPECTS, **options: Any) -> Case:
    method, path = call.split(" ", 1)
    return Case(f"app: {name}", method, path, options, compares, "application")


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
    app_case("a path operation of the application", "GET /direct?name=y"),
    app_case("a mounted application", "GET /sub/items/3"),
    app_case("a mounted application, no such path", "GET /sub/nothing", compares=frozenset({"status", "log"})),
    app_case("static files", "GET /static/case.py"),
    app_case("no such path", "GET /nowhere"),
]
