"""What stands in the request line: methods, paths, ids and queries."""

from tests.web.cases import AUTH, CANARY, DIGITS, GOOD_BODY, Case, each, get, write
from tests.web.raw import request

NOT_IDS = (  # the digit one in other scripts: Arabic, Devanagari, full-width, superscript, subscript, mathematical
    "-1 1.0 1_0 +1 0 01 00 1e0 0x1 %00 1%00 %ff 1%0A 1%0D%0A %201 1%20 1+ null true NaN 1; 1' 1%27%20or%201=1-- .. "
    "%2e%2e %F0%9F%98%80 %C0%AF %ED%A0%80 %D9%A1 %E0%A5%A7 %EF%BC%91 %C2%B9 %E2%82%81 %F0%9D%9F%8F 9223372036854775808 "
    f"18446744073709551617 99999999999999999999 {DIGITS} 9223372036854775807 2147483648 424242 {CANARY}"
).split()

BAD_QUERIES = (
    "limit=-1 limit=0 limit=101 limit=9223372036854775808 limit=1_0 limit=1.0 limit=+5 limit=%2B5 limit=5&limit=5 "
    "limit=5&limit=6 limit= limit limit=05 limit=%205 limit=5%0A limit=%D9%A1 limit=1e1 limit=true limit=NaN "
    "limit=%00 limit=%ff limit[]=5 limit%5B%5D=5 completed=1 completed=0 completed=True completed=TRUE "
    "completed=yes completed=on completed=t completed= completed completed=true&completed=false completed=true%0A "
    "completed=null order=sideways order= order=Newest order=newest&order=oldest order=newest%00 q= q q=%00 "
    "q=a%00b q=%01 q=%7F q=%C2%85 q=%ff q=%C3 q=%ED%A0%80 q=a&q=b q=a%0Db cursor= cursor=AAAAAAAAAAE%3D "
    "cursor=AAAAAAAAAA cursor=AAAAAAAAAAEA cursor=AAAAAAAAAAA cursor=__________8 cursor=gAAAAAAAAAA "
    "cursor=AAAAAAAAAAF cursor=1 cursor=%00 cursor=%ff cursor=AAAAAAAAAAE%0A cursor=AAAA!AAAAAAE cursor=%D9%A1 "
    "nonsense Limit=5 limit%00=5 =5 user_id=bob offset=5 "
    f"limit={DIGITS} order={CANARY} cursor={CANARY} nonsense={CANARY} %ff={CANARY} completed={CANARY} limit={CANARY}"
).split()

GOOD_QUERIES = (
    "& && limit=1 limit=100 completed=true completed=false order=oldest cursor=AAAAAAAAAAE cursor=f_________8 "
    "q=%25 q=_ q=%5C q=+ q=100% q=%zz q=a%0Ab limit=5&order=oldest&completed=true&q=x&cursor=AAAAAAAAAAE"
).split()


def example(text: str) -> bytes:
    return get(f"/api/examples/{text}")


def examples(query: str) -> bytes:
    return get(f"/api/examples?{query}")


IDS = [
    *each(404, "id", example, NOT_IDS),
    *each(404, "id to delete", lambda text: request("DELETE", f"/api/examples/{text}", AUTH), ["1.0", "%00", "01"]),
    *each(
        404,
        "id to complete",
        lambda text: request("PATCH", f"/api/examples/{text}/complete", AUTH),
        ["1.0", "%00", "01"],
    ),
    *each(
        404, "id to change", lambda text: write("PATCH", f"/api/examples/{text}", "{}"), ["1.0", "%00", "01", "424242"]
    ),
]

QUERIES = [
    *each(422, "query", examples, BAD_QUERIES),
    *each(200, "query", examples, GOOD_QUERIES),
    Case("q of 200 emoji", 200, examples("q=" + "%F0%9F%98%80" * 200)),
    Case("q of 201 emoji", 422, examples("q=" + "%F0%9F%98%80" * 201)),
    Case("cursor of 5,000", 422, examples("cursor=" + "A" * 5000)),
    Case("1,500 parameters", 422, examples("&".join(f"a{n}" for n in range(1500)))),
    *each(422, "an example with", lambda query: example(f"1?{query}"), [f"nonsense={CANARY}", "limit=5", "id=1"]),
    Case("parameter on create", 422, write("POST", f"/api/examples?title={CANARY}", GOOD_BODY)),
    Case("parameter on replace", 422, write("PUT", "/api/examples/1?limit=5", GOOD_BODY)),
    Case("parameter on update", 422, write("PATCH", "/api/examples/1?completed=true", "{}")),
    Case("parameter on complete", 422, request("PATCH", "/api/examples/1/complete?completed=false", AUTH)),
    Case("parameter on delete", 422, request("DELETE", "/api/examples/1?force=true", AUTH)),
    Case("query of raw UTF-8", 400, examples("q=é"), parser=True),
]

ODD = "OPTIONS TRACE PROPFIND PURGE MKCOL REPORT LINK M-SEARCH".split()
METHODS = [
    *each(
        405, "/api/examples:", lambda method: request(method, "/api/examples", AUTH), ["PUT", "PATCH", "DELETE", *ODD]
    ),
    *each(405, "/api/examples of a stranger:", lambda method: request(method, "/api/examples"), ["PUT", *ODD]),
    *each(405, "/api/examples/1:", lambda method: request(method, "/api/examples/1", AUTH), ["POST", *ODD]),
    *each(
        405,
        "/api/examples/1/complete:",
        lambda method: request(method, "/api/examples/1/complete", AUTH),
        "GET HEAD POST PUT DELETE OPTIONS".split(),
    ),
    *each(
        405,
        "POST",
        lambda path: request("POST", path),
        "/health /health/live /health/ready /docs /openapi.json".split(),
    ),
    *each(
        400,
        "method",
        lambda method: request(method, "/api/examples"),
        ["FROBNICATE", "get", "", "GE\0T", "GÉT"],
        parser=True,
    ),
    *each(
        200,
        "HEAD",
        lambda path: request("HEAD", path, AUTH),
        ["/api/examples", "/api/examples/1", "/health/live", "/docs"],
    ),
    Case("HEAD of no example", 404, request("HEAD", "/api/examples/424242", AUTH)),
    Case("HEAD of a stranger", 401, request("HEAD", "/api/examples")),
]

NOWHERE = (
    "/ /api /api/ /api/examples/ /api/examples/1/ /api//examples //api/examples /API/EXAMPLES /api/examples/1/x "
    "/api/examples/1/complete/ /%00 /%ff /health/ /health/nothing /../etc/passwd /api/examples%00 /api/examples%0A "
    "/health/live%0A /api/examples;x=1 "
    f"/redoc /docs/ /favicon.ico /{CANARY} /api/{CANARY} http://api.test/{CANARY}"
).split()

PATHS = [
    *each(404, "path", get, NOWHERE),
    *each(404, "path of a stranger", lambda path: request("GET", path), NOWHERE),
    *each(400, "target", get, ["/api/examples/é", "api/examples", "http://api.test", "", "/a b"], parser=True),
    *each(
        200,
        "target",
        get,
        ["/api/examples#x", "http://api.test/api/examples", "http://other.test/api/examples", "/%61pi/examples"],
    ),
    Case("OPTIONS *", 404, request("OPTIONS", "*")),
    Case("CONNECT", 400, request("CONNECT", "api.test:443"), parser=True),
]

CASES = [*IDS, *QUERIES, *METHODS, *PATHS]
