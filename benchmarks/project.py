"""The project as it is measured, with routes as a team would add them: `python -m benchmarks.project`."""

from argparse import ArgumentParser

from fastapi import APIRouter, UploadFile
from opentelemetry import trace
from pydantic import BaseModel

from app import main
from app.ratelimit.limiter import RateLimits
from app.record import Record
from app.serving import serve
from app.settings import Settings
from app.web.route import ApiRoute
from devtools.examples.routes import router as examples

NESTED = 8  # routes of one router, and routers of the one above
UPLOAD_BYTES = 1_000_000

team = APIRouter(prefix="/api/team", route_class=ApiRoute)


class Note(BaseModel):
    """A body of many lines."""

    lines: list[str]


@team.post("/bodies")
def read_body(note: Note) -> dict[str, int]:
    """Count the lines of a body."""
    return {"lines": len(note.lines)}


@team.post("/uploads", max_body_size=UPLOAD_BYTES * 2)
async def read_upload(file: UploadFile) -> dict[str, int]:
    """Count the bytes of an uploaded file."""
    return {"bytes": len(await file.read())}


@team.get("/attributes/{count}")
async def set_attributes(count: int) -> dict[str, int]:
    """Set so many attributes on the server span."""
    span = trace.get_current_span()
    for number in range(count):
        span.set_attribute(f"team.attribute_{number}", number)
    return {"attributes": count}


class Unlimited(RateLimits):
    """Refuses nobody."""

    async def admit(self, record: Record) -> None:
        """Count nothing."""


def remove_limits() -> None:
    """Let applications that are created from now on count nothing."""
    vars(main)["RateLimits"] = Unlimited  # the project has no switch for it, and needs none


def flat(count: int) -> APIRouter:
    """Return a router with so many routes."""
    router = APIRouter(prefix="/api/flat", route_class=ApiRoute)
    _add_routes(router, count)
    return router


def nested(count: int) -> APIRouter:
    """Return a router of routers of routers with so many routes."""
    router = APIRouter(prefix="/api/nested")
    for outer in range(-(-count // NESTED**2)):
        middle = APIRouter(prefix=f"/outer{outer}")
        left = min(count - outer * NESTED**2, NESTED**2)
        for inner in range(-(-left // NESTED)):
            leaf = APIRouter(prefix=f"/inner{inner}", route_class=ApiRoute)
            _add_routes(leaf, min(left - inner * NESTED, NESTED))
            middle.include_router(leaf)
        router.include_router(middle)
    return router


def _add_routes(router: APIRouter, count: int) -> None:
    for number in range(count):

        @router.get(f"/things{number}/{{id}}", operation_id=f"{router.prefix}{number}")
        async def read(id: int) -> int:
            return id


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("--unlimited", action="store_true", help="without limits")
    parser.add_argument("--flat", type=int, default=0, help="so many routes before those that are measured")
    parser.add_argument("--nested", type=int, default=0, help="the same, in routers of routers")
    chosen = parser.parse_args()
    if chosen.unlimited:
        remove_limits()
    main.ENTITIES = (flat(chosen.flat), nested(chosen.nested), examples, team, *main.ENTITIES)
    serve(Settings.load())
