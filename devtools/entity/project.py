"""What a project has already: tables, folders, migrations, and the place where entities are registered."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from devtools.entity.names import EntityError

VERSIONS = "app/migrations/versions"
NUMBER = re.compile(r"(\d{4})_")


class Line(NamedTuple):
    """Where the line of migrations ends: the last revision, and the number of the next file."""

    head: str | None
    number: int


def parse(path: Path) -> ast.Module:
    """Return the syntax of a file of the project, or raise EntityError."""
    try:
        return ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise EntityError(f"{path.name}, line {error.lineno}: {error.msg}. Mend it first") from None


def assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that are assigned to, each with what it is given."""
    for node in body:
        if isinstance(node, ast.Assign):
            yield ast.unparse(node.targets[0]), node.value
        elif isinstance(node, ast.AnnAssign) and node.value:
            yield ast.unparse(node.target), node.value


def _texts(node: ast.AST) -> list[str]:
    """Return the literals of text in an expression."""
    return [found.value for found in ast.walk(node) if isinstance(found, ast.Constant) and isinstance(found.value, str)]


def find_tables(app: Path) -> dict[str, Path]:
    """Return the names of the models' tables, each with its file."""
    files = [path for path in sorted(app.rglob("*.py")) if b"table=True" in path.read_bytes()]
    classes = ((node, path) for path in files for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef))
    return {
        _table_name(node): path for node, path in classes if any(keyword.arg == "table" for keyword in node.keywords)
    }


def _table_name(model: ast.ClassDef) -> str:
    given = [_texts(value) for name, value in assignments(model.body) if name == "__tablename__"]
    return given[0][0] if given and given[0] else model.name.lower()


def can_be_parent(models: Path) -> bool:
    """Tell whether a file of models declares `user_id` and `id` unique together, which a foreign key needs."""
    calls = [node for node in ast.walk(parse(models)) if isinstance(node, ast.Call)]
    unique = [node for node in calls if re.search("UniqueConstraint|unique=True", ast.unparse(node))]
    return any([text for value in node.args for text in _texts(value)][-2:] == ["user_id", "id"] for node in unique)


def has_files(path: Path) -> bool:
    """Tell whether there is a file at `path`, or in it; caches that were left behind do not count."""
    return path.is_file() or any(found.is_file() for found in path.rglob("*") if "__pycache__" not in found.parts)


def find_line(project: Path) -> Line:
    """Return where the line of migrations ends, or raise EntityError if it is not one line."""
    files = [path for path in sorted((project / VERSIONS).glob("*.py")) if path.name != "__init__.py"]
    revisions = {}
    for path in files:
        revisions.update(_read_revision(path))
    before = {old for olds in revisions.values() for old in olds}
    heads = sorted(revisions.keys() - before)
    if len(heads) != min(len(files), 1):
        told = f"{' and '.join(heads)} are both the last" if heads else "no migration is the last"
        raise EntityError(f"the migrations are not one line: {told}. Mend them first")
    numbers = [int(found[1]) for name in (*revisions, *(path.name for path in files)) if (found := NUMBER.match(name))]
    return Line(heads[0] if heads else None, max([len(files), *numbers]) + 1)


def _read_revision(path: Path) -> dict[str, list[str]]:
    """Return the revision of a migration, with those that come before it."""
    values = {name: _texts(value) for name, value in assignments(parse(path).body)}
    if len(values.get("revision", ())) != 1:
        raise EntityError(f"{path.name} names no revision. Mend it first")
    return {values["revision"][0]: values.get("down_revision", [])}
