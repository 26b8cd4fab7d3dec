"""Tutorial and Advanced: Security. Plain FastAPI and the template receive the same token."""

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Security
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPAuthorizationCredentials,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
    OAuth2PasswordRequestForm,
    SecurityScopes,
)

from tests.fastapi.case import Routes, note

routes = Routes("/api/security")
router = routes.router

oauth2 = OAuth2PasswordBearer(tokenUrl="token", scopes={"me": "Read me.", "items": "Read items."})
bearer = HTTPBearer()
basic = HTTPBasic()
of_header = APIKeyHeader(name="X-Key")
of_query = APIKeyQuery(name="api_key", auto_error=False)
of_cookie = APIKeyCookie(name="session")


async def check_scopes(scopes: SecurityScopes, token: Annotated[str, Depends(oauth2)]) -> str:
    note(scopes.scope_str)
    if "admin" in scopes.scopes:
        challenge = f'Bearer scope="{scopes.scope_str}"'
        raise HTTPException(status_code=403, detail="Not enough permissions", headers={"WWW-Authenticate": challenge})
    return f"{len(token) > 10} {scopes.scope_str}"


def active_user(user: Annotated[str, Security(check_scopes, scopes=["me"])]) -> str:
    return f"active {user}"


@routes.get("/token")
async def token(token: Annotated[str, Depends(oauth2)]) -> Any:
    return token.count(".")


@routes.get("/bearer")
def use_bearer(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> Any:
    return credentials.scheme


@routes.get("/basic")
def use_basic(credentials: Annotated[HTTPBasicCredentials, Depends(basic)]) -> Any:
    return credentials.username


@routes.get("/header")
async def header(key: Annotated[str, Security(of_header)]) -> Any:
    return key


@routes.get("/query")
async def query(key: Annotated[str | None, Security(of_query)]) -> Any:
    return key


@routes.get("/cookie")
async def cookie(key: Annotated[str, Depends(of_cookie)]) -> Any:
    return key


@routes.get("/scopes")
async def scopes(user: Annotated[str, Security(active_user, scopes=["items"])]) -> Any:
    return user


@routes.get("/admin", dependencies=[Security(check_scopes, scopes=["admin"])])
def admin() -> Any:
    note("never")


@routes.post("/token")
async def log_in(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> Any:
    return [form.username, form.scopes, form.grant_type]


LOGIN = {"username": "ada", "password": "secret", "grant_type": "password", "scope": "me items"}

case = routes.case
CASES = [
    case("OAuth2PasswordBearer", "GET /token"),
    case("HTTPBearer", "GET /bearer"),
    case("HTTPBasic, by a bearer", "GET /basic"),
    case("APIKeyHeader", "GET /header", headers={"X-Key": "k"}),
    case("APIKeyHeader without one", "GET /header"),
    case("APIKeyCookie", "GET /cookie", headers={"Cookie": "session=s"}),
    case("APIKeyQuery without one", "GET /query"),
    case("APIKeyQuery", "GET /query?api_key=k"),
    case("scopes", "GET /scopes"),
    case("a scope that is refused", "GET /admin"),
    case("OAuth2PasswordRequestForm", "POST /token", data=LOGIN),
]
