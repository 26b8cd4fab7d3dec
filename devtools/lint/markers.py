"""Exceptions: `# squawk-ignore <rule>: <reason>` on a line of the statement that a finding is about, or above it."""

import ast
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from devtools.lint.emission import Finding

MARKER = re.compile(r"#\s*squawk-ignore\b\s*([\w\-]*(?:\s*,\s*[\w\-]+)*)(?:\s*:\s*(.*))?")
UNUSED = ("ban-drop-column", "ban-drop-table", "renaming-column", "renaming-table")
SINCE = re.compile(r"unused since v?\d")


class Marker(NamedTuple):
    """A rule that does not count for a statement, and why."""

    line: int
    rule: str
    reason: str


def settle(file: Path, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings in a file that no marker excuses, and what is wrong with its markers; in order of lines."""
    text, markers, used = file.read_text(encoding="utf-8"), list(_read(file)), set()
    left = []
    for finding in findings:
        lines = _lines_of_statement(text, finding.line)
        excuses = {marker for marker in markers if marker.line in lines and marker.rule == finding.rule}
        used |= excuses
        if not excuses:
            left.append(finding)
    faults = ((marker, _fault(marker, is_used=marker in used)) for marker in markers)
    left += [Finding(file, marker.line, "squawk-ignore", fault) for marker, fault in faults if fault]
    return sorted(left)


def _fault(marker: Marker, *, is_used: bool) -> str | None:
    """Return what is wrong with a marker, or None."""
    if not is_used:
        found = f"{marker.rule or 'no rule'} is not found here"
        return f"{found}: take the marker away, or put it on the statement's own line."
    if not marker.reason:
        return f"{marker.rule} has no reason: `# squawk-ignore {marker.rule}: <reason>`."
    if marker.rule in UNUSED and not SINCE.match(marker.reason):
        return f"{marker.rule} has one good reason, such as `unused since 1.4.0`: a release that is out already."
    return None


def _read(file: Path) -> Iterator[Marker]:
    with tokenize.open(file) as lines:
        for token in tokenize.generate_tokens(lines.readline):
            if token.type == tokenize.COMMENT and (found := MARKER.search(token.string)):
                for rule in found[1].split(","):
                    yield Marker(token.start[0], rule.strip(), found[2] or "")


def _lines_of_statement(text: str, line: int) -> range:
    """Return the lines of the innermost statement that has `line`, with the comments above; of a block, its head."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]
    around = [node for node in nodes if node.lineno <= line <= (node.end_lineno or 0)]
    if not around:
        return range(line, line + 1)
    inner = max(around, key=lambda node: node.lineno)
    lines, body = text.split("\n"), getattr(inner, "body", None)
    end = _begin(lines, body[0]) if body else (inner.end_lineno or 0) + 1
    return range(_begin(lines, inner), end)


def _begin(lines: Sequence[str], statement: ast.stmt) -> int:
    """Return the first line of the comments right above a statement, or its own."""
    begin = statement.lineno
    while begin > 1 and lines[begin - 2].lstrip().startswith("#"):
        begin -= 1
    return begin
