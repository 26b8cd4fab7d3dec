"""What holds for every page: its code is run, its links lead somewhere, and the README is short."""

import re
from pathlib import Path

import pytest

from devtools import __main__ as devtools
from tests.docs.pages import PAGES, ROOT, RUN_BY, RUNBOOK, blocks_of

CODE = {"bash", "diff", "js", "logql", "promql", "python", "sh", "sql", "yaml"}  # others show what is printed
NOT_RUN = "not run: "
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$|<img[^>]* src=\"([^\"]+)\"", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MADE_BY_READERS = re.compile(
    r"app/(boards|forecasts|reminders)\.py|(app|tests)/(boards|cards)(/.*)?|app/migrations/versions/000[24]_.*"
)
OF_TASKS = {  # a copy may have taken them away; the examples are of the same shape
    "app/tasks": "devtools/examples",
    "tests/tasks": "tests/examples",
    "app/migrations/versions/0001_task.py": "devtools/examples/migration.py",
}
MAX_WORDS = 1000
MAX_PICTURE = 200_000

of_every_page = pytest.mark.parametrize("page", [*PAGES, RUNBOOK], ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_code_is_run_or_says_why_not(page: Path) -> None:
    """The comment above it names a test file, which speaks of this page, or gives a reason."""
    for comment, language, text in blocks_of(page):
        if language not in CODE:
            continue
        if comment.startswith(NOT_RUN):
            assert len(comment) > len(NOT_RUN) + 10, text
            continue
        assert comment.startswith(RUN_BY), f"{page.name}: no test runs this, and no reason is given:\n{text}"
        runner = ROOT / comment.removeprefix(RUN_BY)
        assert runner.is_file(), comment
        assert str(page.relative_to(ROOT)) in runner.read_text(), f"{comment} does not speak of {page.name}"


@of_every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the project, and to a heading of it where one is named."""
    for found in LINK.findall(page.read_text()):
        link = next(filter(None, found))
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@of_every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    """A path in backquotes that begins with a folder of the project is there."""
    folders = "app|benchmarks|deploy|devtools|docs|observability|tests"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.read_text()):
        alike = re.sub("|".join(OF_TASKS), lambda found: OF_TASKS[found[0]], name)
        assert (ROOT / name).exists() or (ROOT / alike).exists() or MADE_BY_READERS.fullmatch(name), name


@of_every_page
def test_every_command_exists(page: Path) -> None:
    """Each `make` target is in the Makefile, each command of `app` and `devtools` in its command line."""
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    named = {
        command.name or command.callback.__name__ for command in devtools.cli.registered_commands if command.callback
    }
    assert set(re.findall(r"-m devtools ([a-z]+)", text)) <= named


def test_the_readme_is_short() -> None:
    """So that it is read."""
    assert len((ROOT / "README.md").read_text().split()) <= MAX_WORDS


def test_pictures_are_small_and_shown() -> None:
    """Each has its place in a page."""
    shown = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs/pictures").iterdir():
        assert picture.stat().st_size < MAX_PICTURE, picture.name
        assert f"pictures/{picture.name})" in shown, picture.name
