"""The command: everything is checked first, then all files are written, or none."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools.entity.child import make_child
from devtools.entity.names import EntityError, Names, find_clashes, find_names, respell
from devtools.entity.project import VERSIONS, Line, can_be_parent, find_line, find_tables, has_files
from devtools.entity.registration import register

MAX_IDENTIFIER = 63  # of PostgreSQL
CODE = ("models.py", "queries.py", "routes.py", "migration.py")  # what else `devtools/examples` has is for tests alone
MAIN = "app/main.py"

Texts = dict[str, str]


def make_entity(project: Path, name: str, plural: str = "", parent: str = "") -> str:
    """Make an entity in `project`, as a child of `parent` if one is named; return what was done, in a few lines.

    Raises: EntityError, OSError.
    """
    names = find_names(name, plural)
    words = {"example": names}
    check_free(project, names)
    if parent:
        words["parent"] = find_parent(project, names, parent)
    line = find_line(project)
    templates = read_templates(project, is_child="parent" in words)
    if clashes := [clash for text in templates.values() for clash in find_clashes(text, words)]:
        raise EntityError(f"an entity's own code has a {clashes[0]!r} already: take another name")
    files = spell_files(templates, words, line)
    files[MAIN] = register(project / MAIN, f"app.{names.many}.routes", names.many)
    write(project, files)
    return report(names, words.get("parent"), line)


def check_free(project: Path, names: Names) -> None:
    """Refuse names that a package, a table or a folder of tests has."""
    for path in (f"{folder}/{word}{suffix}" for word in names for folder in ("app", "tests") for suffix in ("", ".py")):
        if has_files(project / path):
            raise EntityError(f"{path} is there already: take another name")
    for word in names & find_tables(project / "app").keys():
        raise EntityError(f"there is a table {word} already: take another name")


def find_parent(project: Path, names: Names, parent: str) -> Names:
    """Return the names of an entity that can have children, by either of them."""
    models = {Names(table, file.parent.name): file for table, file in find_tables(project / "app").items()}
    found = [entity for entity in models if parent in entity and models[entity].name == "models.py"]
    if not found:
        known = ", ".join(sorted(one for one, _ in models))
        raise EntityError(f"there is no entity {parent!r} to be the parent; there is {known or 'none yet'}")
    (one, many), file = found[0], models[found[0]]
    if not can_be_parent(file):
        index = f'Index("{one}_user_id_id", "user_id", "id", unique=True)'
        raise EntityError(f"app/{many}/models.py needs {index}, to which a child refers, and a migration with it")
    support = project / "tests" / many / "support.py"
    text = support.read_text(encoding="utf-8") if support.is_file() else ""
    if f"{many.upper()} = " not in text or f"def create_{one}(" not in text:
        raise EntityError(f"tests/{many}/support.py needs {many.upper()} and create_{one}(), for the tests of a child")
    if len(f"{names.one}_user_id_{one}_id_id") > MAX_IDENTIFIER:
        raise EntityError(f"{names.one} and {one} are too long together for the name of an index")
    return Names(one, many)


def read_templates(project: Path, *, is_child: bool) -> Texts:
    """Return the code that an entity is made from, by its place in one that is called `example`."""
    code = [project / "devtools/examples" / name for name in CODE]
    texts = {}
    for path in (*code, *sorted((project / "tests/examples").glob("*.py"))):
        target = "app/examples" if path in code else "tests/examples"
        texts[f"{target}/{path.name}"] = path.read_text(encoding="utf-8").replace("devtools.examples", "app.examples")
    texts["app/examples/__init__.py"] = '"""The examples: an entity."""\n'
    return make_child(texts) if is_child else texts


def spell_files(templates: Texts, words: dict[str, Names], line: Line) -> Texts:
    """Return the files of the entity that `words` name, by their paths."""
    one, many = words["example"]
    files = {path.replace("/examples/", f"/{many}/"): respell(text, words) for path, text in templates.items()}
    revision = f"{line.number:04}_{one}"
    migration = files.pop(f"app/{many}/migration.py").replace(f"0001_{one}", revision)
    if line.head is None:
        migration = migration.replace("import protect", "import create_roles, protect")
        migration = migration.replace("    protect(", "    create_roles()\n    protect(")
    else:
        migration = migration.replace("down_revision = None", f'down_revision = "{line.head}"')
    files[f"{VERSIONS}/{revision}.py"] = migration
    return files


def write(project: Path, files: Texts) -> None:
    """Write all files, sorted and formatted as the project's are, or none."""
    paths = [path for path in files if path != MAIN or is_tidy(project, MAIN)]
    with all_or_nothing(project, files):
        for path, text in files.items():
            (project / path).parent.mkdir(exist_ok=True)
            (project / path).write_text(text, encoding="utf-8")
        ruff(project, "check", "--select", "I", "--fix", *paths)
        ruff(project, "format", *paths)


@contextmanager
def all_or_nothing(project: Path, files: Texts) -> Iterator[None]:
    """Put everything back as it was, if it cannot be completed."""
    before = {path: (project / path).read_bytes() if (project / path).exists() else None for path in files}
    try:
        yield
    except BaseException:
        for path, content in before.items():
            if content is None:
                (project / path).unlink(missing_ok=True)
            else:
                (project / path).write_bytes(content)
        for folder in {(project / path).parent for path in files}:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise


def is_tidy(project: Path, path: str) -> bool:
    """Tell whether a file is sorted and formatted. Where it is not, its own lines are left as they are."""
    try:
        ruff(project, "check", "--select", "I", path)
        ruff(project, "format", "--check", path)
    except EntityError:
        return False
    return True


def ruff(project: Path, *arguments: str) -> None:
    """Run ruff, or raise EntityError."""
    command = [sys.executable, "-m", "ruff", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)  # noqa: S603  Python itself
    if done.returncode:
        raise EntityError(f"ruff failed: {(done.stderr or done.stdout).strip().partition(chr(10))[0]}")


def report(names: Names, parent: Names | None, line: Line) -> str:
    """Return what was done, and what comes next."""
    one, many = names
    kind = f"one {one}, many {many}" + (f"; each belongs to one {parent.one}" if parent else "")
    return (
        f"{kind}\n"
        f"  app/{many}, with its router in app/main.py\n"
        f"  tests/{many}\n"
        f"  {VERSIONS}/{line.number:04}_{one}.py\n"
        f"Next: change its columns in models.py, queries.py and the migration; docs/entity.md says how.\n"
        f"      make test ARGS=tests/{many}\n"
    )
