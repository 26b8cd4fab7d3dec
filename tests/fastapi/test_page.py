"""`docs/fastapi.md` lists the differences that the tests have, and no others."""

from pathlib import Path

from app.main import create_app
from app.settings import Settings
from tests.docs.pages import blocks
from tests.fastapi.differences import DIFFERENCES
from tests.support import SECRET, make_token

PAGE = Path(__file__).parents[2] / "docs" / "fastapi.md"


def rows(text: str) -> list[list[str]]:
    """Return the cells of the first table of a page, without its head."""
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_page_lists_the_differences() -> None:
    """The same names in the same order, each with what FastAPI does, what is done here, and the reason."""
    found = rows(PAGE.read_text())
    assert [len(row) for row in found] == [4] * len(DIFFERENCES)
    assert {row[0]: row[3] for row in found} == dict(DIFFERENCES)
    assert [row[0] for row in found] == list(DIFFERENCES)


def test_the_client_of_the_page_works(database_url: str) -> None:
    """With an override that is never asked for here."""
    (client,) = blocks("docs/fastapi.md", __file__)
    settings = Settings(database_url=database_url, better_auth_secret=SECRET)
    given = {"create_app": create_app, "settings": settings, "token": make_token(), "current_weather": lambda: "sun"}
    exec(client, given)  # noqa: S102  our own page
