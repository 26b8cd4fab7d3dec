"""Registers an entity in `app/main.py`: its import, and its router in ENTITIES."""

import ast
from pathlib import Path
from symtable import symtable

from devtools.entity.names import EntityError
from devtools.entity.project import assignments, parse


def register(main: Path, module: str, name: str) -> str:
    """Return the text of `main` with the `router` of `module` in ENTITIES, as `name`; or raise EntityError.

    A module that `main` imports already is registered.
    """
    tree, text = parse(main), main.read_bytes()
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("app")]
    if any(node.module == module for node in imports):
        return text.decode()
    if name in symtable(text.decode(), main.name, "exec").get_identifiers():
        raise EntityError(f"app/main.py has something called {name} already: take another name")
    line = f"from {module} import router as {name}"
    entities = dict(assignments(tree.body)).get("ENTITIES")
    if not isinstance(entities, ast.Tuple | ast.List) or not imports:
        raise EntityError(
            f"app/main.py has no line such as `ENTITIES = (tasks,)` that can be added to. Add yourself `{line}` and"
            f" `{name}` where the routers are, then run this again"
        )
    text = _add_to(text, entities, name)
    earlier = [node.end_lineno or 0 for node in imports if (node.module or "") < module]
    lines = text.decode().splitlines(keepends=True)
    lines.insert(max(earlier) if earlier else imports[0].lineno - 1, f"{line}\n")
    return "".join(lines)


def _add_to(text: bytes, entities: ast.Tuple | ast.List, name: str) -> bytes:
    """Return `text` with `name` as the last element of `entities`."""
    start, end = (_offset(text, *at) for at in _span(entities))
    if not entities.elts:
        return text[: start + 1] + name.encode() + (b"," if text[start:].startswith(b"(") else b"") + text[end - 1 :]
    last = _offset(text, *_span(entities.elts[-1])[1])
    rest = text[last:end]
    if b"\n" in rest:  # an element a line
        return text[:last] + f",\n    {name}".encode() + text[last:]
    return text[:last] + f", {name}".encode() + rest.replace(b",", b"") + text[end:]


def _span(node: ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)


def _offset(text: bytes, line: int, column: int) -> int:
    return sum(map(len, text.splitlines(keepends=True)[: line - 1])) + column
