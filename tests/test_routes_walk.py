"""Every route of the application, those of a copied entity too: closed, and documented as it answers."""

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
    if isinstance(route.original_route, ApiRoute)
    for method in sorted(route.methods or ())
]
TOKENS = {
    "none": None,
    "garbage": "x",
    "unsigned": sign({"alg": "none"}, claims()),
    "expired": sign({"alg": "HS256"}, claims(exp=1)),
}


def test_every_route_of_an_entity_is_walked() -> None:
    """No router holds a route that the walk does not see."""
    routes = [route for router in ENTITIES for route in iter_route_contexts(router.routes)]
    assert len(routes) == len({param.values for param in ROUTES}) > 0
    assert all(isinstance(route.original_route, ApiRoute) and (route.path or "")[:5] == "/api/" for route in routes)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_without_a_good_token(stranger: httpx.Client, method: str, path: str, token: str) -> None:
    """401 with a challenge, before path, query or body are looked at."""
    headers = {"Authorization": f"Bearer {TOKENS[token]}"} if TOKENS[token] else {}
    for url, body in ((path.replace("{id}", "1"), b"{}"), (path.replace("{id}", "%00") + "?x=%ff", b"\xff")):
        response = stranger.request(method, url, headers=headers, content=body)
        assert (response.status_code, response.headers["www-authenticate"][:6]) == (401, "Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_is_documented(stranger: httpx.Client, method: str, path: str) -> None:
    """With a name, its security, a summary, and each refusal as a problem."""
    document = stranger.get("/openapi.json").json()
    operation = document["paths"][path][method.lower()]
    assert {"operationId", "summary", "description"} <= operation.keys()
    assert operation["security"] == [{"betterAuth": []}]
    assert document["components"]["securitySchemes"]["betterAuth"]["scheme"] == "bearer"
    wanted = {"401", "408", "413", "414", "422", "431", "500", "503"}
    wanted |= {"404"} if "{" in path else set()
    wanted |= {"400", "415"} if method in {"POST", "PUT", "PATCH"} else set()
    assert wanted <= operation["responses"].keys()
    for status, response in operation["responses"].items():
        assert status < "400" or is_problem(response)


def is_problem(response: Any) -> bool:
    reference = {"$ref": "#/components/schemas/Problem"}
    content: Any = response["content"]
    return bool(content == {"application/problem+json": {"schema": reference}} and response["description"])
