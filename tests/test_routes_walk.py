"""Every route under /api, a team's own too: closed, and documented as it answers."""

import re
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from app.main import ENTITIES
from app.web.route import ApiRoute
from tests.tokens import claims, sign

ROUTES = [
    pytest.param(method, route.path, id=f"{method} {route.path}")
    for router in ENTITIES
    for route in iter_route_contexts(router.routes)
    if (route.path or "").startswith("/api/")  # elsewhere a team's route may be open
    for method in sorted(route.methods or ())
]
PARAMETER = re.compile(r"\{.*?\}")
TOKENS = {
    "none": None,
    "garbage": "x",
    "unsigned": sign({"alg": "none"}, claims()),
    "expired": sign({"alg": "HS256"}, claims(exp=1)),
}


def test_every_route_under_api_is_walked() -> None:
    """No router holds one that the walk does not see, or that is of another class."""
    routes = [route for router in ENTITIES for route in iter_route_contexts(router.routes)]
    closed = [route for route in routes if isinstance(route.original_route, ApiRoute)]
    assert {route.path for route in closed} == {param.values[1] for param in ROUTES} != set()


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_a_good_token(stranger: httpx.Client, method: str, path: str, token: str) -> None:
    """401 with a challenge, before path, query or body are looked at."""
    headers = {"Authorization": f"Bearer {TOKENS[token]}"} if TOKENS[token] else {}
    for value, query, body in (("1", "", b"{}"), ("%00", "?x=%ff", b"\xff")):
        url = PARAMETER.sub(value, path) + query
        response = stranger.request(method, url, headers=headers, content=body)
        assert (response.status_code, response.headers["www-authenticate"][:6]) == (401, "Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_documented(stranger: httpx.Client, method: str, path: str) -> None:
    """With a name, its security, a summary, and each refusal as a problem."""
    document = stranger.get("/openapi.json").json()
    operation = document["paths"][path][method.lower()]
    assert {"operationId", "summary"} <= operation.keys()
    assert operation["security"] == [{"betterAuth": []}]
    assert document["components"]["securitySchemes"]["betterAuth"]["scheme"] == "bearer"
    wanted = {"401", "408", "413", "414", "422", "431", "500", "503"}
    wanted |= {"404"} if "{" in path else set()
    wanted |= {"400", "415"} if "application/json" in operation.get("requestBody", {}).get("content", ()) else set()
    for status in wanted:
        assert is_problem(operation["responses"][status]), status


def is_problem(response: Any) -> bool:
    reference = {"$ref": "#/components/schemas/Problem"}
    content: Any = response["content"]
    return bool(content == {"application/problem+json": {"schema": reference}} and response["description"])
