"""The README and the other pages, and what stands in them.

A block of code has a comment above it: `<!-- run by tests/… -->` names the test file that runs it, and
`<!-- not run: … -->` says why none does. A test gets its blocks from `blocks`, so it runs what a reader pastes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from devtools.entity.child import apply_diff

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUNBOOK = ROOT / "observability" / "runbook.md"
FENCE = re.compile(r"(?:^<!-- ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN_BY = "run by "
WHOLE = {  # these run every block of the page
    "entity.md": "tests/devtools/test_entity.py",
    "upgrade.md": "tests/devtools/test_upgrade.py",
}


class Block(NamedTuple):
    """A block of code: what the comment above it says, its language, and its text."""

    comment: str
    language: str
    text: str


def blocks_of(page: Path) -> Iterator[Block]:
    default = RUN_BY + WHOLE[page.name] if page.name in WHOLE else ""
    for comment, language, text in FENCE.findall(page.read_text()):
        yield Block(comment or default, language, text)


def blocks(page: str, runner: str) -> list[str]:
    """The blocks of a page that say that the test file `runner` runs them, as they are for the tests' own entity.

    A page shows tasks, which a copy of the project may not have.
    """
    name = Path(runner).resolve().relative_to(ROOT)
    texts = [block.text for block in blocks_of(ROOT / page) if block.comment == f"{RUN_BY}{name}"]
    return [text.replace("/api/tasks", "/api/examples") for text in texts]


def apply(folder: Path, diff: str) -> None:
    """Apply a diff of docs/entity.md."""
    named = re.findall("^--- (.*)$", diff, re.MULTILINE)
    for name, text in apply_diff(diff, {name: (folder / name).read_text() for name in named}).items():
        (folder / name).write_text(text)
