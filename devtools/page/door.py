"""Who may see the page: a browser on this machine, which shows the page itself and not one of another origin.

A name of somebody else's may lead to 127.0.0.1 (DNS rebinding), so the Host header counts as well as the peer.
"""

import re
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import Scope

HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.ASCII | re.IGNORECASE)
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def find_fault(scope: Scope) -> str | None:
    """Return why a request is refused, or None if it may see the page."""
    client, headers = scope.get("client"), Headers(scope=scope)
    peer = client[0].removeprefix("::ffff:") if client else ""
    is_here = re.fullmatch(r"[\d.]+|[\da-f:]+", peer) and ip_address(peer).is_loopback
    if not is_here or any(name in headers for name in ("forwarded", "x-forwarded-for", "x-forwarded-host")):
        return "This page is only for the machine that it runs on."
    hosts = headers.getlist("host")
    if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
        return "This page is only at localhost, 127.0.0.1 and [::1]."
    origins = {*headers.getlist("origin")} - {f"{scope.get('scheme', 'http')}://{hosts[0]}"}
    if origins or headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "This page answers no page of another origin."
    return None
