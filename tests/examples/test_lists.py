"""Lists of examples: order, pages, filters, search."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import httpx
import pytest

from tests.examples.support import EXAMPLES, create_example


def walk(client: httpx.Client, **query: Any) -> Iterator[list[str]]:
    """The titles of each page, to the last."""
    response = client.get(EXAMPLES, params=query)
    while True:
        assert response.status_code == 200
        yield [example["title"] for example in response.json()]
        if "next" not in response.links:
            return
        response = client.get(response.links["next"]["url"])


def titles(client: httpx.Client, **query: Any) -> list[str]:
    return [title for page in walk(client, **query) for title in page]


def test_a_list_is_newest_first_and_may_be_oldest_first(someone: httpx.Client) -> None:
    """An empty list, then one of two, in both orders; and a list holds an example as it is read alone."""
    assert someone.get(EXAMPLES).json() == []
    first, second = create_example(someone, title="first"), create_example(someone, title="second")
    assert someone.get(EXAMPLES).json() == [second, first]
    assert someone.get(EXAMPLES, params={"order": "newest"}).json() == [second, first]
    assert someone.get(EXAMPLES, params={"order": "oldest"}).json() == [first, second]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
def test_pages_lead_to_the_end(someone: httpx.Client, order: str, limit: int) -> None:
    """Each page is full but the last, none is empty, and together they hold each example once, in order."""
    wanted = [create_example(someone, title=f"{number}")["title"] for number in range(7)]
    pages = list(walk(someone, order=order, limit=limit))
    assert [len(page) for page in pages] == [len(wanted[start : start + limit]) for start in range(0, 7, limit)]
    assert list(chain(*pages)) == (wanted if order == "oldest" else wanted[::-1])


def test_a_page_is_of_50_unless_told_otherwise(someone: httpx.Client) -> None:
    """50, and up to 100 on request."""
    for number in range(102):
        create_example(someone, title=f"{number}")
    assert [len(page) for page in walk(someone)] == [50, 50, 2]
    assert [len(page) for page in walk(someone, limit=100)] == [100, 2]


def test_a_link_keeps_the_filters(someone: httpx.Client) -> None:
    """The next page has the same limit, order, filter and text, whatever characters are in it."""
    text = "50% & more=é+_\\ #1"
    for number in range(5):
        create_example(someone, title=f"{number} {text}", completed=number != 2)
        create_example(someone, title=f"{number} other", completed=True)
    pages = list(walk(someone, q=text, completed="true", order="oldest", limit=2))
    assert pages == [[f"0 {text}", f"1 {text}"], [f"3 {text}", f"4 {text}"]]


def test_a_link_is_a_path(someone: httpx.Client) -> None:
    """It names no host, which a client could have forged, and its cursor is opaque."""
    create_example(someone)
    create_example(someone)
    link = someone.get(EXAMPLES, params={"limit": 1}, headers={"Host": "evil.test"}).headers["link"]
    assert link.startswith(f"<{EXAMPLES}?limit=1&cursor=")
    assert link.endswith('>; rel="next"')


def test_rows_that_come_and_go_while_paging_move_nothing(someone: httpx.Client) -> None:
    """Newer examples and deleted ones, the cursor's own among them, neither repeat nor hide any other."""
    ids = [create_example(someone, title=f"{number}")["id"] for number in range(6)]
    pages = walk(someone, limit=2)
    assert next(pages) == ["5", "4"]
    create_example(someone, title="new")
    for index in (4, 5, 1):
        someone.delete(f"{EXAMPLES}/{ids[index]}")
    assert list(pages) == [["3", "2"], ["0"]]
    pages = walk(someone, limit=2, order="oldest")
    assert next(pages) == ["0", "2"]
    create_example(someone, title="newest")
    assert list(pages) == [["3", "new"], ["newest"]]


def test_lists_can_be_of_open_or_done_examples(someone: httpx.Client) -> None:
    """`completed` is true or false, or left out for both."""
    create_example(someone, title="open")
    create_example(someone, title="done", completed=True)
    assert titles(someone, completed="true") == ["done"]
    assert titles(someone, completed="false") == ["open"]
    assert titles(someone) == ["done", "open"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MILK", ["Buy milk"]),
        ("two litres", ["Buy milk"]),
        ("école", ["À L'ÉCOLE"]),
        ("à l'éc", ["À L'ÉCOLE"]),
        ("%", ["100% sure"]),
        ("0% s", ["100% sure"]),
        ("_", ["snake_case"]),
        ("e_c", ["snake_case"]),
        ("\\", ["back\\slash"]),
        ("k\\s", ["back\\slash"]),
        ("\\%", []),
        ("' OR 1=1 --", []),
        ("0 S", ["1000 sure"]),
        ("😀", ["emoji"]),
        ("nowhere", []),
    ],
)
def test_text_is_found_wherever_it_stands(someone: httpx.Client, text: str, found: list[str]) -> None:
    """In title or description, whatever its case, each character standing for itself."""
    create_example(someone, title="Buy milk", description="Two litres")
    for title in ("100% sure", "1000 sure", "snake_case", "snakeXcase", "back\\slash", "À L'ÉCOLE"):
        create_example(someone, title=title)
    create_example(someone, title="emoji", description="x😀")
    assert titles(someone, q=text) == found
