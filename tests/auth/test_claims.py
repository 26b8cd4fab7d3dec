"""What a token says beside its user: read once, bounded, never shown; and what routes let in by it."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.datastructures import Headers

from app.auth import Claims, CurrentMember, CurrentUser, Principal, require
from app.auth import claims as claims_module
from app.auth.authenticator import Authenticator, Secret, current_user
from app.errors import Forbidden
from app.main import create_app
from app.settings import Settings
from app.web.route import ApiRoute
from tests.docs.pages import blocks
from tests.support import SECRET, UNLIMITED, Api, make_token, run_api
from tests.tokens import claims, sign

CANARY = "canary-7f3a"
Editor = Annotated[Principal, Depends(require(role="editor"))]

router = APIRouter(prefix="/api/claims", route_class=ApiRoute)
closed = APIRouter(prefix="/api/closed", route_class=ApiRoute, dependencies=[Depends(require(role="admin"))])
included = APIRouter(prefix="/api/included", route_class=ApiRoute)
parent = APIRouter()
page = APIRouter(prefix="/api/page", route_class=ApiRoute)
outside = APIRouter(prefix="/outside")


(DRAFTS,) = blocks("docs/entity.md", __file__)
exec(DRAFTS, {"router": page, "Annotated": Annotated, "Depends": Depends})  # noqa: S102  our own page


@router.get("/mine")
async def mine(user: CurrentUser) -> dict[str, Any]:
    """Tell what the token says."""
    return {"role": sorted(user.claims.role), "org_id": user.claims.org_id}


@router.get("/editor")
def edit(user: Editor) -> str:
    """Do what editors do."""
    return user.user_id


@router.post("/one-of", dependencies=[Depends(require(role=["admin", "editor"]))])
async def one_of(words: list[str]) -> int:
    """Do what two kinds of users do."""
    return len(words)


@router.get("/both", dependencies=[Depends(require("org_id", role="editor"))])
async def both() -> None:
    """Do what editors of an organization do."""


@router.get("/acme", dependencies=[Depends(require(org_id="acme"))])
async def acme(member: CurrentMember) -> str | None:
    """Do what one organization does."""
    return member.claims.org_id


@closed.get("")
@included.get("")
@outside.get("/plain", dependencies=[Depends(require(role="admin"))])
async def nothing() -> None:
    """Do nothing."""


@outside.get("/open")
async def open_to_all() -> None:
    """Do nothing, for everyone."""


parent.include_router(included, dependencies=[Depends(require(role="admin"))])
ROUTERS = (router, closed, parent, page, outside)


@pytest.fixture(scope="module")
def api(new_database: Callable[[], str]) -> Iterator[Api]:
    settings = Settings(database_url=new_database(), better_auth_secret=SECRET, **UNLIMITED)
    with run_api(settings, partial(create_app, entities=ROUTERS)) as running_api:
        yield running_api


@pytest.fixture(scope="module")
def ask(api: Api) -> Iterator[Callable[..., httpx.Response]]:
    """A function that sends a GET with a token that has these claims."""
    with api.client(None) as client:

        def get(path: str, **claims: Any) -> httpx.Response:
            return client.get(path, headers={"Authorization": f"Bearer {make_token('alice', **claims)}"})

        yield get


Ask = Callable[..., httpx.Response]
READ = [
    ({}, [], None),
    ({"role": "admin"}, ["admin"], None),
    ({"role": "user,admin", "org_id": "acme"}, ["admin", "user"], "acme"),
    ({"role": ["b", "a", "b"], "org_id": "x" * 64}, ["a", "b"], "x" * 64),
    ({"role": "", "org_id": "0"}, [], "0"),
    ({"role": [], "email": CANARY, "other": "x" * 4000}, [], None),
]


@pytest.mark.parametrize(("signed", "role", "org_id"), READ)
def test_a_principal_has_the_claims_that_are_named(
    ask: Ask, signed: dict[str, Any], role: list[str], org_id: str | None
) -> None:
    """As their types say; one that is missing is the default, and what nobody named is not there."""
    assert ask("/api/claims/mine", **signed).json() == {"role": role, "org_id": org_id}


def test_null_is_missing(api: Api) -> None:
    """Better Auth signs null where a user has no role, or no organization is active."""
    token = sign({"alg": "HS256"}, claims(role=None, org_id=None))
    with api.client(None, Authorization=f"Bearer {token}") as client:
        assert client.get("/api/claims/mine").json() == {"role": [], "org_id": None}


WRONG: list[tuple[str, Any]] = [
    ("role", True),
    ("role", 1),
    ("role", {"admin": True}),
    ("role", [1, None, {"admin": True}]),
    ("role", ["admin", ["admin"]]),
    ("role", [str(number) for number in range(65)]),
    ("role", f"{CANARY}{'x' * 1024}"),
    ("role", "," * 4000),
    ("role", [CANARY] * 100),
    ("org_id", ""),
    ("org_id", 5),
    ("org_id", 1.5),
    ("org_id", False),
    ("org_id", ["acme"]),
    ("org_id", {"id": "acme"}),
    ("org_id", "x" * 65),
    ("org_id", "acme\0"),
    ("org_id", "acme\n"),
    ("org_id", " acme"),
    ("org_id", "a'cme"),
    ("org_id", "a\\'cme"),
    ("org_id", "%s"),
    ("org_id", "acm\u00e9"),
    ("org_id", "\u0661"),
    ("org_id", "\ud800"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:20])
def test_a_wrong_claim_makes_the_token_invalid(
    ask: Ask, caplog: pytest.LogCaptureFixture, name: str, value: Any
) -> None:
    """Whichever route is asked: 401, and one line in the log that names the claim and not its value."""
    refused = ask("/api/claims/mine", **{name: value})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_invalid")
    assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("app.auth")]
    assert line.startswith(f"a token is refused: the claim {name} is ")
    assert CANARY not in caplog.text
    assert CANARY not in refused.text


FIELDS = """
    plan: Literal["free", "pro"] = "free"
    verified: bool = False
    teams: frozenset[str] = frozenset()
    since: date | None = None
    seats: int = Field(0, alias="seatCount")

    def __repr_args__"""
OF_A_TEAM: list[tuple[str, Any, str | None]] = [
    ("plan", "pro", None),
    ("plan", "gold", "the claim plan is not as Claims has it (literal_error)"),
    ("verified", True, None),
    ("verified", "true", "the claim verified is not as Claims has it (bool_type)"),
    ("teams", ["a", "b"], None),
    ("teams", "a,b", "the claim teams is not as Claims has it (frozen_set_type)"),
    ("since", "2026-01-31", None),
    ("since", 5, "the claim since is not as Claims has it (date_type)"),
    ("seatCount", 3, None),
    ("seatCount", "3", "the claim seatCount is not as Claims has it (int_type)"),
    ("seats", "passed over", None),
]


@pytest.mark.parametrize(("name", "value", "refusal"), OF_A_TEAM)
def test_a_team_names_claims_by_their_types(name: str, value: Any, refusal: str | None) -> None:
    """A field of `Claims` is all it takes; JSON's own types are not converted."""
    source = Path(claims_module.__file__).read_text().replace("\n    def __repr_args__", FIELDS)
    edited: dict[str, Any] = {"Literal": Literal, "date": date}
    exec(source, edited)  # noqa: S102  our own module
    if refusal is None:
        assert edited["read_claims"]({name: value, "role": "admin"}) != edited["Claims"](role="admin", seats=4)
    else:
        with pytest.raises(edited["WrongClaim"]) as told:
            edited["read_claims"]({name: value})
        assert str(told.value) == refusal


@pytest.mark.parametrize("size", [1000, 5000, 8192])
def test_a_claim_has_a_size(ask: Ask, caplog: pytest.LogCaptureFixture, size: int) -> None:
    """1 KiB for all of them; of a token that is over 8 KiB nothing is read. One line in the log says which."""
    caplog.set_level(logging.INFO, "app.auth")
    assert ask("/api/claims/mine", role="x" * 900).status_code == 200
    assert ask("/api/claims/mine", role="x" * size, org_id="y" * 64).status_code == 401
    (line,) = [record.getMessage() for record in caplog.records if record.name.startswith("app.auth")]
    too_large = "it is larger than 8192 bytes" if size == 8192 else "the claim role is too large"
    assert line == f"a token is refused: {too_large}"


def test_claims_are_not_shown() -> None:
    """Whoever prints or logs a principal writes down its user alone."""
    user = Principal("alice", Claims(role=frozenset({CANARY}), org_id=CANARY))
    assert repr(user) == str(user) == "Principal(user_id='alice', claims=Claims())"
    assert str(user.claims) == ""


def test_claims_are_read_once() -> None:
    """All requests with a token share its principal."""
    authenticate = Authenticator(Secret(SECRET), None, None)
    headers = Headers({"Authorization": f"Bearer {make_token(org_id='acme')}"})

    async def twice() -> tuple[Principal, Principal]:
        return await authenticate(headers), await authenticate(headers)

    one, two = asyncio.run(twice())
    assert one is two


ALLOWED = [
    ("/api/page/drafts", {"role": "editor"}, None),
    ("/api/page/drafts", {"org_id": "acme"}, "The token has no `role`."),
    ("/api/claims/editor", {"role": "editor"}, None),
    ("/api/claims/editor", {"role": "user,editor"}, None),
    ("/api/claims/editor", {"role": ["editor", "user"]}, None),
    ("/api/claims/editor", {"role": "editors"}, "The token's `role` does not allow this."),
    ("/api/claims/editor", {"role": "admin"}, "The token's `role` does not allow this."),
    ("/api/claims/editor", {"role": ["user,editor"]}, "The token's `role` does not allow this."),
    ("/api/claims/editor", {}, "The token has no `role`."),
    ("/api/claims/both", {"role": "editor", "org_id": "acme"}, None),
    ("/api/claims/both", {"role": "editor"}, "The token has no `org_id`."),
    ("/api/claims/both", {"org_id": "acme"}, "The token has no `role`."),
    ("/api/claims/acme", {"org_id": "acme"}, None),
    ("/api/claims/acme", {"org_id": "acme2"}, "The token's `org_id` does not allow this."),
    *(
        (path, signed, detail)
        for path in ("/api/closed", "/api/included", "/outside/plain")
        for signed, detail in (({"role": "admin"}, None), ({"role": "user"}, "The token's `role` does not allow this."))
    ),
]


@pytest.mark.parametrize(("path", "signed", "detail"), ALLOWED)
def test_a_route_lets_in_by_claims(ask: Ask, path: str, signed: dict[str, Any], detail: str | None) -> None:
    """On a parameter, a route, a router and where it is included; under /api and outside: else 403 with a code."""
    answer = ask(path, **signed)
    if detail is None:
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert answer.json()["detail"] == detail
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_stranger_is_asked_for_a_token_first(api: Api) -> None:
    """401 in place of 403, wherever the route is."""
    with api.client(None) as stranger:
        for path in ("/api/claims/editor", "/api/closed", "/api/included", "/outside/plain"):
            assert stranger.get(path).status_code == 401, path
        assert stranger.get("/outside/open").status_code == 200


def test_a_requirement_is_met_before_the_body_is_looked_at(api: Api) -> None:
    """Who may not do it learns nothing of what is wrong with the body; one of the values is enough."""
    with api.client(None) as client:

        def post(role: str, body: Any) -> int:
            headers = {"Authorization": f"Bearer {make_token('alice', role=role)}"}
            return client.post("/api/claims/one-of", json=body, headers=headers).status_code

        assert [post(role, ["a"]) for role in ("admin", "editor", "user")] == [200, 200, 403]
        assert [post(role, {"a": 1}) for role in ("admin", "user")] == [422, 403]


def test_the_document_says_who_is_refused(api: Api) -> None:
    """Each route that requires a claim has its 403 and its token in the OpenAPI document, and no other route has."""
    with api.client(None) as client:
        paths = client.get("/openapi.json").json()["paths"]
    said = {path: "403" in operation["responses"] for path, methods in paths.items() for operation in methods.values()}
    refusing = {path for path, is_said in said.items() if is_said}
    names = ("editor", "one-of", "both", "acme")
    others = {"/api/closed", "/api/included", "/api/page/drafts", "/outside/plain"}
    assert refusing == {f"/api/claims/{name}" for name in names} | others
    for path in refusing:
        (operation,) = paths[path].values()
        assert operation["security"] == [{"betterAuth": []}]
        assert list(operation["responses"]["403"]["content"]) == ["application/problem+json"]


@pytest.fixture
def application(api: Api) -> FastAPI:
    return create_app(api.settings, entities=ROUTERS)


def test_a_test_replaces_a_requirement(application: FastAPI) -> None:
    """By an equal one, or the user behind it, as `dependency_overrides` replaces any dependency."""
    headers = {"Authorization": f"Bearer {make_token('alice')}"}
    editor = Principal("bob", Claims(role=frozenset({"editor"})))
    with TestClient(application, headers=headers) as client:
        assert client.get("/api/claims/editor").status_code == 403
        application.dependency_overrides[require(role="editor")] = lambda: Principal("carol")
        assert client.get("/api/claims/editor").json() == "carol"
        application.dependency_overrides = {current_user: lambda: editor}
        assert client.get("/api/claims/editor").json() == "bob"
        assert client.get("/api/closed").status_code == 403


def test_a_requirement_names_claims_that_there_are() -> None:
    """Where it is written, in one line with the names there are; not at the first request."""
    wrong: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {"rol": "admin"}),
        (("rol",), {}),
        (("role",), {"rol": 1}),
    ]
    known = ", ".join(sorted(Claims.model_fields))
    for present, wanted in wrong:
        with pytest.raises(TypeError) as told:
            require(*present, **wanted)
        assert str(told.value) == f"require() names rol: app/auth/claims.py has {known}."
    with pytest.raises(TypeError, match=r"^require\(\) names no claim: "):
        require()


def test_a_requirement_of_nothing_lets_nobody_in() -> None:
    """A set of values that happens to be empty does not open the route."""
    root = Principal("root", Claims(role=frozenset({"admin"})))
    for requirement in (require(role=set()), require(role=None), require(role="")):
        with pytest.raises(Forbidden, match="does not allow"):
            asyncio.run(requirement(root))
