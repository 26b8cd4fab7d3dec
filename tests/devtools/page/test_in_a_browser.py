"""The development page in a real Chromium: what it shows of a request, and to whom; that everybody can use it."""

import gzip
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from devtools.browser import Page, open_browser
from devtools.postgres import Server
from tests.browser.frontend import IN_A_BROWSER
from tests.devtools.page.conftest import serve_page
from tests.otlp_receiver import run_receiver
from tests.process import ROOT
from tests.support import Api, run_sql, wait_until

pytestmark = IN_A_BROWSER

SLOW_MS = 20
EVIL = '<img src=x onerror="document.title=1">'
ROWS = "[...document.querySelectorAll('#rows tr')].filter(row => !row.hidden)"
VIEWS = {"": "#rows tr", "statements": "#dearest tr", "now": "#charts svg", "try": ".who"}  # and what shows its content
# https://www.w3.org/TR/WCAG22/#contrast-minimum, of every text that is shown
CONTRASTS = """(() => {
  const numbers = color => color.match(/[\\d.]+/g).map(Number);
  const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = color => {
    const [red, green, blue] = numbers(color).map(part => linear(part / 255));
    return red * 0.2126 + green * 0.7152 + blue * 0.0722;
  };
  const back = node => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(back(node))].sort((x, y) => x - y);
    found.push([(b + 0.05) / (a + 0.05), walker.currentNode.data.trim()]);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def page(new_database: Callable[[], str], cluster: Server) -> Iterator[Api]:
    """Alice has many examples, and a statement is slow soon."""
    url = new_database()
    name = url.partition("?")[0].rpartition("/")[2]
    run_sql(cluster.superuser_url(), f"ALTER ROLE tasks IN DATABASE {name} SET auto_explain.log_min_duration = 0")
    run_sql(
        cluster.superuser_url(name),
        "INSERT INTO example (user_id, title, description, completed) "
        "SELECT 'alice', 'example ' || n, repeat('word ', 20), true FROM generate_series(1, 100000) n; ANALYZE",
    )
    with serve_page(url, slow_query_ms=SLOW_MS) as api:
        yield api


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser("--host-resolver-rules=MAP rebound.example 127.0.0.1") as tab:
        tab.resize(1280, 900)
        yield tab


@contextmanager
def replay(file: Path) -> Iterator[str]:
    """Show a saved trace until the block ends. Yield where."""
    command = [sys.executable, "-m", "devtools", "replay", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


def show(browser: Page, api: Api, path: str = "") -> None:
    browser.open("about:blank")
    browser.open(f"{api.url}/_dev/{path}")
    browser.wait_for("document.querySelector('#state').textContent == 'live'")


def send(api: Api, path: str, **options: Any) -> str:
    """Send a request of alice's; return its trace."""
    with api.client() as alice:
        return alice.get(path, **options).headers["X-Trace-Id"]


def test_a_slow_search_appears_within_a_second_and_says_why(page: Api, browser: Page) -> None:
    """Its row, one click, and the statement is open: its cause in words, the plan, the worst step and the code."""
    show(browser, page)
    trace = send(page, "/api/examples?q=no-such-thing")
    answered = monotonic()
    browser.wait_for(f"document.querySelector('#rows a[href$=\"{trace}\"]')")
    assert monotonic() - answered < 1
    row = browser.evaluate(f"{ROWS}[0].innerText")
    assert re.match(r"[\d:]+\s+GET /api/examples\s+slow\s+200\s", row)
    browser.evaluate(f"{ROWS}[0].querySelector('a').click()")
    browser.wait_for("document.querySelector('.plan')")
    assert browser.evaluate("location.pathname") == f"/_dev/trace/{trace}"
    cause = browser.evaluate("document.querySelector('.cause').innerText")
    assert re.search(r"SELECT example took [\d.]+ ms of [\d.]+ ms.", cause)
    assert re.search(r"most on (Parallel )?Seq Scan on example: 0 rows came out, \d+,\d+ were read and thrown", cause)
    assert re.search(r"Sent by devtools\.examples\.queries\.\w+\.page, devtools/examples/queries\.py:\d+", cause)
    names = browser.evaluate("[...document.querySelectorAll('.fall .name')].map(name => name.innerText)")
    assert names[-1] == "SELECT example"
    assert "Seq Scan on example costs most" in browser.evaluate("document.querySelector('.plan .worst').innerText")
    assert "FROM example" in browser.evaluate("document.querySelector('.details pre').innerText")
    browser.wait_for("document.querySelector('.log')")
    assert "slow query: SELECT example" in browser.evaluate("document.querySelector('.log').innerText")


def test_the_steps_of_a_plan_have_times_once_the_server_takes_them(page: Api, browser: Page, cluster: Server) -> None:
    """Until then a note has the command; afterwards the worst step is the one that took longest."""
    show(browser, page, f"trace/{send(page, '/api/examples?q=no-such-thing')}")
    browser.wait_for("document.querySelector('.plan')")
    assert "auto_explain.log_timing = on" in browser.evaluate("document.querySelector('.details .note code').innerText")
    url = page.settings.database_url
    assert url
    name = url.get_secret_value().partition("?")[0].rpartition("/")[2]
    run_sql(cluster.superuser_url(), f"ALTER ROLE tasks IN DATABASE {name} SET auto_explain.log_timing = on")
    try:
        with serve_page(url.get_secret_value(), slow_query_ms=SLOW_MS) as timed:
            show(browser, timed, f"trace/{send(timed, '/api/examples?q=no-such-thing')}")
            browser.wait_for("document.querySelector('.plan')")
            worst = browser.evaluate("document.querySelector('.plan .worst').innerText")
            assert re.search(r"Seq Scan on example costs most\s(.*\s)*[\d.]+ ms\s", worst)
            assert browser.evaluate("document.querySelector('.details .note code')") is None
    finally:
        run_sql(cluster.superuser_url(), f"ALTER ROLE tasks IN DATABASE {name} RESET auto_explain.log_timing")


def test_a_request_that_asks_again_and_again_is_marked(page: Api, browser: Page) -> None:
    """In the list, in its own words, and at its statement. A filter hides all others; they are found by their id."""
    other = send(page, "/api/examples?limit=1")
    send(page, "/api/again")
    show(browser, page)
    browser.wait_for(f"document.querySelector('#rows a[href$=\"{other}\"]')")
    browser.evaluate("document.querySelector('#repeats').click()")
    assert "N+1: 7 times" in browser.evaluate(f"{ROWS}.map(row => row.innerText).join()")
    assert browser.evaluate(f"{ROWS}.every(row => row.innerText.includes('N+1'))")
    assert "hidden by the filters" in browser.evaluate("document.querySelector('#count').innerText")
    show(browser, page, f"trace/{other}")
    browser.wait_for("document.querySelector('#trace h1').innerText == 'GET /api/examples 200'")
    show(browser, page)
    browser.wait_for(f"{ROWS}.length")
    browser.evaluate(f"{ROWS}[0].querySelector('a').click()")
    browser.wait_for("document.querySelector('.cause')")
    assert "ran 7 times" in browser.evaluate("document.querySelector('.cause').innerText")
    show(browser, page, "statements")
    browser.wait_for("document.querySelector('#dearest .tag')")
    assert re.search("SELECT.*N\\+1", browser.evaluate("document.querySelector('#dearest').innerText"), re.DOTALL)


@pytest.mark.parametrize("path", ["/api/say", f"/api/{EVIL}"])
def test_what_a_user_wrote_is_text(page: Api, browser: Page, path: str) -> None:
    """In a header, in a path, in a log line, in an exception's message."""
    trace = send(page, path, params={"words": EVIL}, headers={"User-Agent": EVIL})
    for view in ("", f"trace/{trace}"):
        show(browser, page, view)
        browser.wait_for("document.querySelector('#rows a') && document.querySelector('h1').innerText")
    browser.wait_for("document.querySelector('.log')")
    browser.evaluate("document.querySelectorAll('summary, [aria-expanded=false]').forEach(one => one.click())")
    assert EVIL in browser.evaluate("document.querySelector('main').textContent")
    assert browser.evaluate("document.querySelectorAll('main img').length") == 0
    assert browser.evaluate("document.title") != "1"


@pytest.mark.parametrize(
    ("start", "host"), [("about:blank", "rebound.example"), ("http://localhost:{port}/health", "127.0.0.1")]
)
def test_another_host_or_origin_is_refused(page: Api, browser: Page, start: str, host: str) -> None:
    """A name of somebody else's that leads here, and a link of a page that is not this one."""
    browser.open(start.format(port=page.port))
    browser.wait_for("document.readyState == 'complete' && document.body")
    browser.evaluate(f"location.href = 'http://{host}:{page.port}/_dev/'")
    browser.wait_for("document.body?.innerText.startsWith('This page ')")


def test_it_can_be_tried_as_anybody(page: Api, browser: Page) -> None:
    """A token of a user is made, where the OpenAPI page looks for it, and a request of theirs leads to its trace."""
    show(browser, page, "try")
    browser.evaluate("document.querySelector('#user').value = 'carol'; document.querySelector('#become').click()")
    browser.wait_for("document.querySelector('#path').value.startsWith('/api')")
    browser.evaluate("document.querySelector('#send').click()")
    browser.wait_for("document.querySelector('#sent a')")
    browser.evaluate("document.querySelector('#sent a').click()")
    browser.wait_for("document.querySelector('#whole').innerText.includes('carol')")
    assert browser.evaluate("Object.values(JSON.parse(localStorage.authorized))[0].value.split('.').length") == 3


def test_the_numbers_of_now_are_drawn(page: Api, browser: Page) -> None:
    """With the route that was asked, and since when."""
    for _ in range(3):
        send(page, "/api/examples?limit=1")
    show(browser, page, "now")
    browser.wait_for("document.querySelectorAll('#charts polyline').length >= 7")
    browser.wait_for("document.querySelector('#routes').innerText.includes('GET /api/examples')")
    assert "these begin at" in browser.evaluate("document.querySelector('#since').innerText")


def test_a_saved_trace_is_shown_as_its_request_was(page: Api, browser: Page, tmp_path: Path) -> None:
    """In OTLP's JSON, as the exporter sent it: the same cause and plan, and nothing that only a running API has."""
    own = {"database_url": page.settings.database_url, "slow_query_ms": SLOW_MS}
    with run_receiver() as receiver, serve_page(**own, otel_exporter_otlp_endpoint=receiver.url) as api:
        send(api, "/api/examples?q=no-such-thing")
        wait_until(lambda: "SELECT example" in [span["name"] for span in receiver.spans])
    file = tmp_path / "saved.json"
    file.write_bytes(b"\n".join(body if body[:1] == b"{" else gzip.decompress(body) for body in receiver.bodies))
    with replay(file) as url:
        browser.open(url)
        browser.wait_for(f"{ROWS}.length == 1")
        browser.evaluate(f"{ROWS}[0].querySelector('a').click()")
        browser.wait_for("document.querySelector('.plan .worst')?.innerText.includes('Seq Scan on example')")
        assert browser.evaluate("document.querySelector('#title').innerText") == "Replay: saved.json"
        assert browser.evaluate("[...document.querySelectorAll('nav a')].filter(link => !link.hidden).length") == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(page: Api, browser: Page, scheme: str) -> None:
    """Every text has a contrast of 4.5:1 in both colour schemes. No view is wider than a narrow window."""
    trace = send(page, "/api/examples?q=no-such-thing")
    browser._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.resize(360, 800)
    try:
        for view, content in (VIEWS | {f"trace/{trace}": ".plan"}).items():
            show(browser, page, view)
            browser.wait_for(f"document.querySelector('{content}')")
            assert [text for ratio, text in browser.evaluate(CONTRASTS) if ratio < 4.5] == []
            assert (view, browser.evaluate("document.documentElement.scrollWidth")) == (view, 360)
    finally:
        browser.resize(1280, 900)


def press(browser: Page, key: str, number: int, **text: str) -> None:
    for kind in ("keyDown", "keyUp"):
        browser._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=number, **text)


def test_a_keyboard_is_enough(page: Api, browser: Page) -> None:
    """From the first tab stop to a statement's plan; each control has a name; the focus follows."""
    send(page, "/api/examples?q=no-such-thing")
    show(browser, page)
    browser.wait_for(f"{ROWS}.length")
    for _ in range(30):
        press(browser, "Tab", 9)
        if browser.evaluate("document.activeElement.closest('#rows') !== null"):
            break
    press(browser, "Enter", 13, text="\r")
    browser.wait_for("document.querySelector('.plan')")
    assert browser.evaluate("document.activeElement === document.querySelector('#trace h1')")
    for _ in range(2):
        press(browser, "Tab", 9)
    press(browser, "ArrowUp", 38)
    browser._call("Accessibility.enable")
    for node in browser._call("Accessibility.getFullAXTree")["nodes"]:
        if node.get("role", {}).get("value") in {"button", "link", "textbox", "searchbox", "combobox", "checkbox"}:
            assert node["name"]["value"], node
    assert browser.evaluate("document.activeElement.className") == "bar"
