"""A real Better Auth on Node: the API takes its tokens, and refuses its cookies."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.docs.pages import blocks
from tests.key_server import outcome
from tests.support import SECRET, Api

pytestmark = pytest.mark.slow

HOME = Path(__file__).parent / "better_auth"
CREDENTIALS = {"email": "alice@example.com", "password": "correct horse battery staple"}
PLUGINS = re.compile("^const plugins = .*\n", re.MULTILINE)

Serve = Callable[..., AbstractContextManager[Api]]
Start = Callable[..., AbstractContextManager[str]]


def program(name: str) -> str:
    """The path of a program that these tests cannot do without."""
    found = shutil.which(name)
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is missing, and CI must run these tests")
    return found or pytest.skip(f"{name} is missing")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Install Better Auth from npm; return what serves it and gives its URL."""
    node, npm = program("node"), program("npm")
    home = shutil.copytree(HOME, tmp_path_factory.mktemp("node") / "better_auth")
    options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
    subprocess.run((npm, "install", *options), cwd=home, check=True, timeout=300)
    (plugins,) = blocks("docs/frontend.md", __file__)
    program_of_page = PLUGINS.sub(lambda _: plugins, (home / "server.mjs").read_text())
    (home / "organizations.mjs").write_text(program_of_page)

    @contextmanager
    def serve_better_auth(script: str = "server.mjs", **environ: str) -> Iterator[str]:
        environ = os.environ | {"BETTER_AUTH_SECRET": SECRET, "BETTER_AUTH_TELEMETRY": "0"} | environ
        command = (node, script)
        with subprocess.Popen(command, cwd=home, env=environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            try:
                yield process.stdout.readline().strip()
            finally:
                process.terminate()

    return serve_better_auth


@contextmanager
def signed_up(url: str, **other: str) -> Iterator[httpx.Client]:
    """A browser, so to say: it keeps the cookies of its session."""
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=30) as browser:
        browser.post("/api/auth/sign-up/email", json=CREDENTIALS | {"name": "Alice"} | other).raise_for_status()
        yield browser


def test_a_user_signs_up_and_in(start: Start, serve: Serve) -> None:
    """Sign up, ask for a token, use it; sign in again, read the token off the session, and be the same user."""
    with start() as url, serve(better_auth_url=url, better_auth_secret=None) as api, signed_up(url) as browser:
        token = browser.get("/api/auth/token").raise_for_status().json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        example = (
            httpx.post(f"{api.url}/api/examples", headers=headers, json={"title": "mine"}).raise_for_status().json()
        )
        browser.cookies.clear()
        assert browser.get("/api/auth/token").status_code == 401
        user = browser.post("/api/auth/sign-in/email", json=CREDENTIALS).raise_for_status().json()["user"]
        again = {"Authorization": f"Bearer {browser.get('/api/auth/get-session').headers['set-auth-jwt']}"}
        assert httpx.get(f"{api.url}/api/examples", headers=again).json() == [example]
    assert example["user_id"] == user["id"]


@pytest.mark.parametrize("signer", ["secret", "key"])
def test_a_session_is_no_token(start: Start, serve: Serve, signer: str) -> None:
    """A session cookie is a JWT of the secret or of the very keys, and opens nothing: not by key, not by secret."""
    with start(COOKIE_KEYS="1" if signer == "key" else "") as url, signed_up(url) as browser:
        cookie, session = browser.cookies["better-auth.session_data"], browser.cookies["better-auth.session_token"]
        assert jwt.get_unverified_header(cookie)["alg"] == ("EdDSA" if signer == "key" else "HS256")
        for mode in ({"better_auth_url": url}, {"better_auth_secret": SECRET}):
            with serve(**mode) as api:
                assert outcome(api, cookie) == outcome(api, session.split(".")[0]) == (401, "token_invalid")


def post(browser: httpx.Client, path: str, **body: str) -> Any:
    return browser.post(f"/api/auth/organization/{path}", json=body).raise_for_status().json()


def test_the_plugins_of_the_page_sign_role_and_organization(start: Start, serve: Serve) -> None:
    """The active organization of a member; none before, and none once the member is removed, whose session goes on."""
    with (
        start("organizations.mjs") as url,
        serve(better_auth_url=url, better_auth_secret=None) as api,
        signed_up(url) as alice,
        signed_up(url, email="bob@example.com", name="Bob") as bob,
    ):

        def signed(browser: httpx.Client) -> tuple[str | None, str | None]:
            token = browser.get("/api/auth/token").raise_for_status().json()["token"]
            assert outcome(api, token) == (200, None)
            claims = jwt.decode(token, options={"verify_signature": False})
            assert set(claims) <= {"iat", "exp", "iss", "aud", "sub", "role", "org_id"}
            return claims.get("role"), claims.get("org_id")

        assert signed(alice) == ("user", None)
        acme = post(alice, "create", name="Acme", slug="acme")["id"]
        post(alice, "set-active", organizationId=acme)
        assert signed(alice) == ("user", acme)
        invitation = post(alice, "invite-member", email="bob@example.com", role="member")["id"]
        post(bob, "accept-invitation", invitationId=invitation)
        post(bob, "set-active", organizationId=acme)
        assert signed(bob) == ("user", acme)
        post(alice, "remove-member", memberIdOrEmail="bob@example.com")
        assert bob.get("/api/auth/get-session").json()["session"]["activeOrganizationId"] == acme
        assert signed(bob) == ("user", None)
        assert signed(alice) == ("user", acme)
