"""Messages as such: their size, their framing, and who sends them."""

from tests.web.cases import AUTH, CANARY, GOOD_BODY, JSON, Case, each, get, post, write
from tests.web.raw import TOKEN, request

CHUNKED = "Transfer-Encoding: chunked"
LENGTH = "Content-Length: 20000000"
SENT = (b"x" * 1_000_000,) * 20
CHUNKS = (*(b"F4240\r\n" + SENT[0] + b"\r\n",) * 20, b"0\r\n\r\n")
FORGED = f"Authorization: Bearer {CANARY}"

SIZES = [
    Case("20 MB announced", 413, request("POST", "/api/examples", AUTH, JSON, LENGTH), SENT),
    Case("20 MB announced by a stranger", 413, request("POST", "/api/examples", JSON, LENGTH), SENT),
    Case("20 MB announced with a forged token", 413, request("PUT", "/api/examples/1", FORGED, JSON, LENGTH), SENT),
    Case("20 MB announced on GET", 413, request("GET", "/api/examples", AUTH, LENGTH), SENT),
    Case("20 MB chunked", 413, request("POST", "/api/examples", AUTH, JSON, CHUNKED), CHUNKS),
    Case("20 MB chunked by a stranger", 413, request("PATCH", "/api/examples/1", CHUNKED), CHUNKS),
    Case("20 MB chunked with a forged token", 413, request("POST", "/api/examples", FORGED, JSON, CHUNKED), CHUNKS),
    Case("20 MB to nowhere", 413, request("POST", "/nowhere", LENGTH), SENT),
    Case(
        "20 MB announced and not sent",
        413,
        request("POST", "/api/examples", AUTH, JSON, LENGTH, "Expect: 100-continue"),
    ),
    Case("one byte over 128 KiB", 413, post(GOOD_BODY.ljust(128 * 1024 + 1))),
    Case("128 KiB to the byte", 201, post(GOOD_BODY.ljust(128 * 1024))),
    Case("path of 100 kB", 414, get("/api/examples/" + CANARY * 9_000)),
    Case("path of 100 kB of a stranger", 414, request("GET", "/" + CANARY * 9_000)),
    Case("query of 100 kB", 414, get("/api/examples?q=" + CANARY * 9_000)),
    Case("path of 9 kB", 414, get("/" + "a" * 9_000)),
    Case("header of 100 kB", 431, get("/api/examples", "X-Long: " + CANARY * 9_000)),
    Case("header name of 100 kB", 431, get("/api/examples", "X" * 100_000 + ": 1")),
    Case("token of 100 kB", 431, request("GET", "/api/examples", "Authorization: Bearer " + "a" * 100_000)),
    Case("headers of 40 kB together", 431, get("/api/examples", *[f"X-{n}: {CANARY * 90}" for n in range(40)])),
    Case("5,000 headers", 431, get("/api/examples", *[f"X-{n}: {CANARY}" for n in range(5000)])),
    Case("5,000 times one header of a stranger", 431, request("GET", "/api/examples", *["a: b"] * 5000)),
    Case("101 headers", 431, get("/api/examples", *["a: b"] * 99)),
    Case("100 headers", 200, get("/api/examples", *["a: b"] * 98)),
    Case("headers of 2 MB", 400, get("/api/examples", *["X-Long: " + "a" * 20_000] * 100), parser=True),
    Case("a header that does not end", 400, b"GET /api/examples HTTP/1.1\r\nX-Long: ", SENT[:2], parser=True),
    Case("a target that does not end", 400, b"GET /api/examples/", SENT[:2], parser=True),
]


def length(text: str) -> bytes:
    return request("POST", "/api/examples", AUTH, JSON, f"Content-Length: {text}")


PARSER = [
    Case("Content-Length with Transfer-Encoding", 400, post("0\r\n\r\n", JSON, CHUNKED), parser=True),
    Case("two Content-Lengths", 400, post(GOOD_BODY, JSON, "Content-Length: 3"), parser=True),
    *each(400, "Content-Length", length, ["-1", "+5", "1_0", "five", "0x5", "9" * 50, "5, 5"], parser=True),
    Case("unknown Transfer-Encoding", 400, write("POST", "/api/examples", "", "Transfer-Encoding: gzip"), parser=True),
    Case("bad chunk size", 400, request("POST", "/api/examples", AUTH, JSON, CHUNKED) + b"zz\r\n", parser=True),
    *each(
        400,
        "header",
        lambda line: get("/api/examples", line),
        ["nonsense", "a b: c", "a: \0", "a: b\r\n c"],
        parser=True,
    ),
    Case("HTTP/9.9", 400, request("GET", "/api/examples", AUTH, version="9.9"), parser=True),
    Case("HTTP/2 preface", 400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", parser=True),
    Case("a TLS hello", 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", parser=True),
]

UPGRADE = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"]
PROTOCOL = [
    Case("HTTP/1.0", 200, request("GET", "/api/examples", AUTH, version="1.0")),
    Case(
        "HTTP/1.0 with a body",
        201,
        request("POST", "/api/examples", AUTH, JSON, body=GOOD_BODY.encode(), version="1.0"),
    ),
    Case("chunked", 201, request("POST", "/api/examples", AUTH, JSON, CHUNKED) + b'e\r\n{"title": "x"}\r\n0\r\n\r\n'),
    Case("Expect: 100-continue", 201, post(GOOD_BODY, JSON, "Expect: 100-continue")),
    Case("another expectation", 201, post(GOOD_BODY, JSON, "Expect: a-miracle")),
    Case("upgrade to HTTP/2", 200, get("/api/examples", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")),
    Case("upgrade to a WebSocket", 200, get("/api/examples", *UPGRADE)),
    Case("header of bytes", 200, get("/api/examples", b"X-Odd: \xff\xfe\x80")),
]


def stranger(raw: bytes) -> bytes:
    return raw.replace(AUTH + b"\r\n", b"")


def authorized(value: bytes) -> bytes:
    return request("GET", "/api/examples", b"Authorization: " + value)


BAD_AUTHORIZATION = [
    *(
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YTpi",
        TOKEN,
        b"Token " + TOKEN,
        b"Bearer," + TOKEN,
        b"B\xc3\xa9arer " + TOKEN,
    ),
    *(b"Bearer " + TOKEN + tail for tail in (b"x", b" x", b".x", b"=", b"!", b", Bearer " + TOKEN)),
    *(b"Bearer " + text for text in (b"a.b.c", b"...", b"\xff\xfe", b"Bearer " + TOKEN, b"a" * 9000, CANARY.encode())),
]

STRANGERS = [
    *[
        Case(f"stranger with {label}", 401, stranger(raw))
        for label, raw in [
            ("nothing wrong", get("/api/examples")),
            ("a bad id", get("/api/examples/nonsense")),
            ("a bad limit", get("/api/examples?limit=x")),
            ("an unknown parameter", get(f"/api/examples?x={CANARY}")),
            ("a query that is no UTF-8", get("/api/examples?q=%ff")),
            ("a broken body", post("{")),
            ("brackets", post("[" * 100_000)),
            ("an unfit body", post('{"title": 1}')),
            ("a byte order mark", post(b"\xef\xbb\xbf{}")),
            ("no body", request("POST", "/api/examples", AUTH)),
            ("a wrong type", post(CANARY, "Content-Type: text/plain")),
            ("all wrong", write("PUT", "/api/examples/x?y=z", "{", "Content-Type: text/plain")),
            ("a bad id to delete", request("DELETE", "/api/examples/x", AUTH)),
            ("a bad id to complete", request("PATCH", "/api/examples/x/complete", AUTH)),
        ]
    ],
    *[Case(f"Authorization {value[:40]!r}", 401, authorized(value)) for value in BAD_AUTHORIZATION],
    Case("two Authorization headers", 401, get("/api/examples", AUTH)),
    Case("Authorization twice, one good", 401, get("/api/examples", "Authorization: Basic YTpi")),
    Case("lower-case bearer", 200, request("GET", "/api/examples", b"authorization: bearer " + TOKEN)),
    Case("upper-case bearer", 200, request("GET", "/api/examples", b"AUTHORIZATION: BEARER " + TOKEN)),
    Case("bearer with two spaces", 200, authorized(b"Bearer  " + TOKEN)),
]

CASES = [*SIZES, *PARSER, *PROTOCOL, *STRANGERS]
