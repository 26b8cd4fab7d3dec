"""Each difference to plain FastAPI in full. In a call, `~` stands for the router's prefix."""

import gzip
from collections.abc import Callable

import pytest

from tests.fastapi.apps import RunningApp
from tests.fastapi.compare import Answer
from tests.fastapi.differences import DIFFERENCES, KIB, Differs
from tests.support import make_token

GetApp = Callable[[str, str], RunningApp]

JSON = {"Content-Type": "application/json"}
NO_TOKEN = {"Authorization": ""}
ANOTHER = {"Authorization": f"Bearer {make_token(key='another secret, which is as long as the first')}"}
NOT_FOUND = {"type": "about:blank", "title": "Not Found", "status": 404, "code": "not_found"}
INVALID = {"title": "Unprocessable Entity", "status": 422, "code": "invalid_request"}
MALFORMED = {"status": 400, "code": "malformed_json"}
MEDIA_TYPE = {"status": 415, "code": "unsupported_media_type"}
MISSING = {"status": 401, "code": "token_missing"}
TOO_LARGE = {"status": 413, "code": "body_too_large"}
TEXT = {"Content-Type": "text/plain"}


def strict(body: str | bytes, content_type: str | None = "application/json") -> dict[str, object]:
    return {"content": body, "headers": {"Content-Type": content_type} if content_type else {}}


def packed(headers: dict[str, str]) -> dict[str, object]:
    return {"content": gzip.compress(b'{"size": 1}'), "headers": headers | {"Content-Encoding": "gzip"}}


def body(kib: int) -> dict[str, object]:
    return {"content": b"x" * kib * KIB, "headers": TEXT}


CASES = [
    Differs("Errors", "GET ~/refused", 404, 404, {}, NOT_FOUND | {"detail": "Project 7 has no such board"}),
    Differs("Errors", "GET ~/refused?odd=1", 404, 404, {}, NOT_FOUND | {"detail": "Not Found", "data": {"board": 7}}),
    Differs("Errors", "GET ~/query?size=secret", 422, 422, {}, INVALID, ("/query/size",), ("dependency",)),
    Differs("Errors", "GET /nowhere", 404, 404, {}, NOT_FOUND),
    Differs("Errors", "POST ~/query", 405, 405, {}, {"status": 405, "code": "method_not_allowed"}),
    Differs("Query parameters", "GET ~/query?sise=2", 200, 422, {}, INVALID, ("/query/sise",)),
    Differs("Query parameters", "GET ~/query?size=2&size=3", 200, 422, {}, INVALID, ("/query/size",)),
    Differs("Query parameters", "GET ~/query?size=%ff", 422, 422, {}, INVALID, ("/query",)),
    Differs("Query parameters", "GET ~/filters?limit=1&more=2", 422, 422, {}, INVALID, ("/query/more",)),
    Differs("Query parameters", "GET ~/undeclared?name=x", 200, 422, {}, INVALID, ("/query/name",)),
    Differs("`Body` models", "POST ~/strict", 422, 400, strict('{"size": 1,}'), MALFORMED),
    Differs("`Body` models", "POST ~/strict", 500, 400, strict('{"size": NaN}'), MALFORMED),
    Differs("`Body` models", "POST ~/strict", 200, 400, strict('{"size": 1}'.encode("utf-16")), MALFORMED),
    Differs("`Body` models", "POST ~/strict", 422, 415, strict('{"size": 1}', "text/plain"), MEDIA_TYPE),
    Differs("`Body` models", "POST ~/strict", 422, 415, strict('{"size": 1}', None), MEDIA_TYPE),
    Differs("`Body` models", "POST ~/strict", 200, 415, strict('{"size": 1}', "application/x+json"), MEDIA_TYPE),
    Differs("`Body` models", "POST ~/strict", 422, 422, strict('{"size": "1"}'), INVALID, ("/size",), ("dependency",)),
    Differs(
        "`Body` models",
        "POST ~/strict",
        422,
        422,
        strict('{"size": 1, "more": 2}'),
        INVALID,
        ("/more",),
        ("dependency",),
    ),
    Differs(
        "`Body` models", "POST ~/strict", 422, 200, strict('{"size": 1, "day": "2026-02-03"}'), log=("dependency",)
    ),
    Differs(
        "`Body` models",
        "POST ~/strict-two",
        422,
        200,
        strict('{"body": {"size": 1, "day": "2026-02-03"}, "number": 1}'),
    ),
    Differs("`Body` models", "POST ~/strict-two", 422, 400, strict('{"body": {"size": 1}'), MALFORMED),
    Differs("Compressed bodies", "POST ~/strict", 400, 415, packed(JSON), MEDIA_TYPE),
    Differs("Compressed bodies", "POST ~/bytes", 200, 415, packed(TEXT), MEDIA_TYPE),
    Differs("Order of the checks", "POST ~/strict", 422, 401, {"content": "{", "headers": JSON | NO_TOKEN}, MISSING),
    Differs(
        "Order of the checks", "POST ~/strict", 422, 401, {"json": {}, "headers": ANOTHER}, {"code": "token_invalid"}
    ),
    Differs("Order of the checks", "GET ~/query?sise=2", 200, 401, {"headers": NO_TOKEN}, MISSING),
    Differs("HEAD", "HEAD ~/query", 405, 200, log=("dependency", "GET")),
    Differs("Unexpected exceptions", "GET ~/broken", 500, 500, {}, {"status": 500, "code": "internal_error"}),
    Differs("Headers of answers", "GET ~/query", 200, 200, log=("dependency", "GET")),
    Differs("Trailing slashes", "GET ~/query/", 307, 404, {}, NOT_FOUND),
    Differs("ReDoc", "GET /redoc", 200, 404, {}, NOT_FOUND),
    Differs("Size of a body", "POST ~/bytes", 200, 413, body(129), TOO_LARGE),
    Differs("Size of a body", "POST ~/large", 413, 413, body(257), {"status": 413}),
]
IDS = [f"{number} {case.row}: {case.call.replace('~', '')}" for number, case in enumerate(CASES)]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_template_differs_in_this(case: Differs, served: GetApp) -> None:
    """Plain FastAPI and the template answer differently. An error of the template is a problem document."""
    plain, ours = (served(maker, "routes").send(case.case) for maker in ("plain", "template"))
    assert (plain.status, ours.status) == (case.plain, case.ours)
    assert ours.log == case.log
    if ours.status >= 400:
        document = ours.json
        assert ours.headers["content-type"] == "application/problem+json"
        assert case.members.items() <= document.items()
        assert tuple(error["pointer"] for error in document.get("errors", ())) == case.pointers
        assert not any(word in ours.body for word in (b"secret", b"patient"))


def send(served: GetApp, maker: str, call: str, **options: object) -> Answer:
    return served(maker, "routes").send(Differs("", call, 0, 0, options).case)


def test_head_is_answered_as_get(served: GetApp) -> None:
    """The answer has the headers of the GET and no body. A 405 names HEAD."""
    head, get = send(served, "template", "HEAD ~/query"), send(served, "template", "GET ~/query")
    assert (head.body, head.headers["content-length"]) == (b"", get.headers["content-length"])
    assert "HEAD" in send(served, "template", "POST ~/query").headers["allow"]


def test_answers_carry_more_headers(served: GetApp) -> None:
    """No header is missing. Those of security, of tracing and of the limit are added."""
    plain, ours = (set(send(served, maker, "GET ~/query").headers) for maker in ("plain", "template"))
    added = {"cache-control", "referrer-policy", "server-timing", "vary", "x-content-type-options", "x-trace-id"}
    assert ours - plain == added | {"ratelimit", "ratelimit-policy"}
    assert plain - ours == {"server"}


def test_a_validation_error_names_the_field_and_not_the_value(served: GetApp) -> None:
    """FastAPI sends the value back."""
    plain, ours = (send(served, maker, "GET ~/query?size=secret") for maker in ("plain", "template"))
    assert plain.json["detail"][0]["input"] == "secret"
    assert ours.json["errors"] == [{"pointer": "/query/size", "message": plain.json["detail"][0]["msg"]}]


@pytest.mark.parametrize(("path", "kib"), [("bytes", 127), ("large", 129), ("large", 255)])
def test_a_body_within_its_bound_is_accepted(served: GetApp, path: str, kib: int) -> None:
    """The bound is 128 KiB, or what the route sets with FastAPI's own option."""
    for maker in ("plain", "template"):
        answer = send(served, maker, f"POST ~/{path}", **body(kib))
        assert (answer.status, answer.json) == (200, kib * KIB)


def test_each_difference_is_exercised() -> None:
    """Each row of the table has a case."""
    assert {case.row for case in CASES} == set(DIFFERENCES)
