"""What a project has already: tables, folders, migrations, and the place where entities are registered."""

import ast
import re
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


def find_tables(app: Path) -> dict[str, Path]:
    """Return the names of the models' tables, each with its file."""
    files = [path for path in sorted(app.rglob("*.py")) if b"table=True" in path.read_bytes()]
    classes = ((node, path) for path in files for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef))
    return {
        _table_name(node): path for node, path in classes if any(keyword.arg == "table" for keyword in node.keywords)
    }


def _table_name(model: ast.ClassDef) -> str:
    for node in model.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__tablename__":
            return str(ast.literal_eval(node.value))
    return model.name.lower()


def can_be_parent(models: Path) -> bool:
    """Tell whether a file of models declares `user_id` and `id` unique together, which a foreign key needs."""
    for node in ast.walk(parse(models)):
        if isinstance(node, ast.Call):
            texts = [value.value for value in node.args if isinstance(value, ast.Constant)]
            is_unique = "Unique" in ast.unparse(node.func) or any(word.arg == "unique" for word in node.keywords)
            if is_unique and texts[-2:] == ["user_id", "id"]:
                return True
    return False


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


def _read_revision(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the revision of a migration, with those that come before it."""
    values = {}
    for node in parse(path).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant | ast.Tuple | ast.List):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            values[ast.unparse(target)] = ast.literal_eval(node.value)
    if "revision" not in values:
        raise EntityError(f"{path.name} names no revision. Mend it first")
    before = values.get("down_revision") or ()
    return {values["revision"]: (before,) if isinstance(before, str) else tuple(before)}
