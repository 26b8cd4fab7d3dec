"""Bodies: their text, types, syntax and content types."""

from tests.web.cases import AUTH, CANARY, DIGITS, GOOD_BODY, JSON, Case, each, get, post, write
from tests.web.raw import request

EMOJI, ESCAPED_EMOJI = "😀", r"\ud83d\ude00"
CONTROLS = [*range(0x09), *range(0x0B, 0x20), 0x7F, *range(0x80, 0xA0)]  # all but tab and newline
NUMBERS = ["2147483648", "9223372036854775808", DIGITS, "1e400", "-1e400"]


def title(literal: str | bytes) -> bytes:
    literal = literal.encode() if isinstance(literal, str) else literal
    return post(b'{"description": "%s", "title": %s}' % (CANARY.encode(), literal))


def completed(literal: str) -> bytes:
    return post(f'{{"title": "{CANARY}", "completed": {literal}}}')


def ignored(literal: str) -> bytes:
    return post(f'{{"title": "x", "id": {literal}}}')


def described(text: str) -> bytes:
    return post(f'{{"title": "x", "description": "{text}"}}')


def of_type(content_type: str) -> bytes:
    return post(GOOD_BODY, f"Content-Type: {content_type}")


def replace(body: str) -> bytes:
    return write("PUT", "/api/examples/1", body)


def patch(body: str) -> bytes:
    return write("PATCH", "/api/examples/1", body)


def complete(body: str) -> bytes:
    return write("PATCH", "/api/examples/1/complete", body)


TEXT = [
    *each(422, "escaped in a title:", title, [rf'"{CANARY}\u{code:04x}"' for code in CONTROLS]),
    *each(422, "raw in a title:", title, [f'"{CANARY}{chr(code)}"' for code in CONTROLS if code >= 0x7F]),
    *each(400, "raw in a title:", title, [f'"{CANARY}{chr(code)}"' for code in (*CONTROLS, 0x09, 0x0A) if code < 0x20]),
    *each(422, "lone surrogate:", title, [rf'"{CANARY}\ud800"', rf'"{CANARY}\udc00"', rf'"{CANARY}\udc00\ud800"']),
    Case("NUL in a description", 422, described(rf"{CANARY}\u0000")),
    Case("surrogate pair", 201, title(f'"{ESCAPED_EMOJI}"')),
    Case("surrogate as UTF-8", 400, title(b'"\xed\xa0\x80"')),
    Case("a byte that no UTF-8 has", 400, title(b'"\xff"')),
    Case("overlong UTF-8", 400, title(b'"\xc0\xaf"')),
    Case("truncated UTF-8", 400, title(b'"\xe2\x82"')),
    *each(201, "title", title, [r'"a\tb\nc"', r'"a\r\nb"', r'"\uffff\ufffe"', f'"{"x" * 200}"', f'"  {"x" * 200}  "']),
    *each(422, "title", title, [r'"a\rb"', '""', '"  "', r'"\u00a0\u2003\u3000"', f'"{"x" * 201}"']),
    Case("title of 200 emoji", 201, title(f'"{EMOJI * 200}"')),
    Case("title of 201 emoji", 422, title(f'"{EMOJI * 201}"')),
    Case("description of 10,001", 422, described("d" * 10_001)),
    Case("description of 10,000 escaped emoji", 201, described(ESCAPED_EMOJI * 10_000)),
    Case("description of 10,001 escaped emoji", 422, described(ESCAPED_EMOJI * 10_001)),
    Case("description of 10,000 CRLF", 201, described(r"\r\n" * 10_000)),
    Case("description of nothing", 201, described("")),
]

TYPES = [
    *each(422, "title", title, ["null", "1", "5", "true", "1.5", "[]", "{}", *NUMBERS]),
    *each(422, "completed", completed, ["1", "0", '"true"', '"5"', "null", "1.0", "[]", "{}", *NUMBERS]),
    Case("description of a number", 422, post('{"title": "x", "description": 5}')),
    Case("title NaN", 400, title("NaN")),
    *each(400, "completed", completed, ["NaN", "Infinity", "-Infinity"]),
    *each(400, "read-only field", ignored, ["NaN", "Infinity", "-Infinity", '[{"a": NaN}]']),
    *each(201, "read-only field", ignored, ["1e400", "-1", "null", '"NaN"', '{"a": [1, true]}', "9223372036854775808"]),
    Case("read-only field of more digits than a number has", 422, ignored(DIGITS)),
    Case("unknown field", 422, post(f'{{"title": "x", "nonsense": "{CANARY}"}}')),
    Case("unknown field with an odd name", 422, post(r'{"title": "x", "~/\u0000\n😀": 1}')),
    Case("unknown field with a long name", 422, post(f'{{"title": "x", "{"n" * 100_000}": 1}}')),
    Case("field in another case", 422, post(f'{{"title": "x", "Title": "{CANARY}"}}')),
    Case("5,000 unknown fields", 422, post("{" + ",".join(f'"{n}": 0' for n in range(5000)) + "}")),
    Case("title missing", 422, post(f'{{"description": "{CANARY}"}}')),
    Case("field twice, the last counts", 201, post('{"title": 1, "title": "y"}')),
    Case("field twice, the last is bad", 422, post(f'{{"title": "{CANARY}", "title": 1}}')),
    *each(422, "body", post, ["null", "5", "true", f'"{CANARY}"', f'[{{"title": "{CANARY}"}}]', ""]),
    Case("no body", 422, request("POST", "/api/examples", AUTH)),
    Case("no body, with a type", 422, request("POST", "/api/examples", AUTH, JSON)),
    *each(422, "PUT", replace, ['{"title": "x", "completed": true}', '{"title": "x", "description": null}', "{}"]),
    Case("PUT without title", 422, replace('{"description": null, "completed": true}')),
    *each(422, "PATCH", patch, ['{"title": null}', '{"completed": null}', '{"title": " "}', "null", "[]", ""]),
    *each(422, "complete", complete, ["null", "[]", '{"completed": 1}', '{"completed": null}', '{"title": "x"}']),
]

SYNTAX = [
    *each(400, "body", post, [f'{{"title": "{CANARY}"', f'{{"title": "{CANARY}",}}', f"{{'title': '{CANARY}'}}"]),
    *each(
        400, "body", post, [f'{{"title": "{CANARY}" /* c */}}', f"{GOOD_BODY} {CANARY}", GOOD_BODY * 2, " \n ", "\0"]
    ),
    *each(400, "body", post, ['{"title": "x", "id": 01}', r'{"title": "\x41"}', r'{"title": "\u12"}', "nonsense", "{"]),
    Case("byte order mark", 400, post(f"\ufeff{GOOD_BODY}")),
    *[Case(f"body in {codec}", 400, post(GOOD_BODY.encode(codec))) for codec in ("utf-16", "utf-16-le", "utf-32")],
    Case("body in Latin-1", 400, post('{"title": "é"}'.encode("latin-1"))),
    Case("100,000 brackets", 400, post("[" * 100_000)),
    Case("50,000 closed brackets", 400, post("[" * 50_000 + "]" * 50_000)),
    Case("20,000 nested objects", 400, post('{"a":' * 20_000 + "1" + "}" * 20_000)),
    Case("40,000 brackets in a read-only field", 400, ignored("[" * 40_000 + "]" * 40_000)),
    Case("500 brackets in a read-only field", 422, ignored("[" * 500 + "]" * 500)),
    Case("white space around", 201, post(f" \r\n\t{GOOD_BODY} \n")),
]

CONTENT_TYPES = [
    *each(415, "type", of_type, ["text/plain", "text/json", "application/xml", "application/jsonx", "application", ""]),
    *each(
        415, "type", of_type, ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", CANARY]
    ),
    *each(415, "type", of_type, ["application/merge-patch+json", "application/json, text/plain", f"{CANARY}/json"]),
    *each(
        415, "charset", of_type, [f"application/json; charset={name}" for name in ("utf-16", "latin-1", '"utf-16"', "")]
    ),
    *each(415, "charset", of_type, ["application/json;;charset=x", "application/json; charset=utf-8; charset=utf-16"]),
    Case("no type", 415, request("POST", "/api/examples", AUTH, body=GOOD_BODY.encode())),
    Case("type of bytes", 415, post(GOOD_BODY, b"Content-Type: \xff\xfe")),
    Case("two types", 415, post(GOOD_BODY, JSON, "Content-Type: text/plain")),
    Case("wrong type of a broken body", 415, post(f"{{{CANARY}", "Content-Type: text/plain")),
    *each(
        201,
        "type",
        of_type,
        ["Application/JSON", "application/json;", "application/json; odata=verbose; charset=utf-8"],
    ),
    *each(201, "charset", of_type, ["application/json;charset=UTF-8", 'application/json ; charset="utf-8"']),
    Case("a body on GET", 200, get("/api/examples", "Content-Length: 2") + b"\xff{"),
    Case("a body on DELETE", 404, write("DELETE", "/api/examples/424242", b"\xff{")),
]

CASES = [*TEXT, *TYPES, *SYNTAX, *CONTENT_TYPES]
