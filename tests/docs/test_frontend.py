"""The client of docs/frontend.md, run by Node against an API and what stands in for Better Auth."""

import json
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler

from tests.docs.pages import blocks
from tests.process import needed
from tests.support import Api, make_token, run_handler


class Auth(BaseHTTPRequestHandler):
    """Gives a token, as Better Auth's jwt plugin does."""

    def do_GET(self) -> None:
        assert self.path == "/api/auth/token"
        body = json.dumps({"token": make_token("alice")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output to itself."""


def test_the_client_fetches_a_token_and_makes_a_row(serve: Callable[..., AbstractContextManager[Api]]) -> None:
    """Its first request has no token and is refused, so it fetches one and asks again, once."""
    (client,) = blocks("docs/frontend.md", __file__)
    with run_handler(Auth) as port, serve() as api, api.client() as alice:
        script = client.replace("http://127.0.0.1:8000", api.url).replace(
            "https://auth.example.com", f"http://127.0.0.1:{port}"
        )
        assert script.count("127.0.0.1") == 2
        subprocess.run([needed("node"), "--input-type=module", "--eval", script], check=True, timeout=30)
        assert [made["title"] for made in alice.get("/api/examples").json()] == ["Hello"]
