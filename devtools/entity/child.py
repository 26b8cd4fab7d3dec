"""What a child has in addition: its parent's key, the filter by it, and tests of both. `child.diff` has the lines."""

from pathlib import Path

from devtools.entity.names import EntityError

DIFF = Path(__file__).with_name("child.diff")


def make_child(texts: dict[str, str]) -> dict[str, str]:
    """Return the code of an entity as that of a child: `example` and `parent` stand for the names in both.

    Raises: EntityError.
    """
    return apply_diff(DIFF.read_text(encoding="utf-8"), texts)


def apply_diff(diff: str, texts: dict[str, str]) -> dict[str, str]:
    """Return `texts` with the lines that a diff without line numbers adds to them and takes from them.

    Raises: EntityError.
    """
    changed = dict(texts)
    for part in diff.removeprefix("--- ").split("\n--- "):
        name, *lines = part.rstrip("\n").split("\n")
        changed[name] = _apply(lines, changed.get(name, ""), name)
    return changed


def _apply(lines: list[str], text: str, name: str) -> str:
    """Add or remove `lines`; each that is there already is looked for below the one before it."""
    at = 0
    for kind, line in ((line[:1], f"{line[1:]}\n") for line in lines):
        if kind == "+":
            text = text[:at] + line + text[at:]
        else:
            at = text.find(line, at)
            if at < 0:
                raise EntityError(f"{name.replace('app/', 'devtools/')} has changed, and lacks {line.strip()!r}")
            text = text[:at] + text[at + len(line) :] if kind == "-" else text
        at += len(line) if kind != "-" else 0
    return text
