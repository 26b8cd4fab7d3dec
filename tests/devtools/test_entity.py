"""`make entity` copies the examples under a team's names, registers them, and refuses what would not work."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.entity import EntityError, make_entity
from devtools.entity.names import Names, find_names, respell
from devtools.entity.registration import register
from tests.devtools.processes import ROOT
from tests.devtools.template import AS_IT_CAME, REASON, copy_template, give_python, run
from tests.docs.pages import apply, blocks

COPIED = (
    *(f"app/{name}" for name in ("__init__.py", "auth", "db", "errors.py", "settings", "web")),
    *(f"app/migrations/{name}" for name in ("__init__.py", "row_security.py")),
    *("devtools/examples", "tests/__init__.py", "tests/examples", "pyproject.toml"),
)
VERSIONS = "app/migrations/versions"
LONG = "a_name_of_twenty_six_chars"
RUFF = (sys.executable, "-m", "ruff")
MIGRATION = 'revision = "{}"\ndown_revision = {!r}\n'
MAIN = '''"""What of the application's main file matters here."""

from fastapi import APIRouter

from app.settings import Settings

ENTITIES: tuple[APIRouter, ...] = ()


def measure(settings: Settings) -> int:
    """Tell how many statements may run at once."""
    return settings.database_pool_size
'''


@pytest.fixture(scope="session")
def with_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the examples and one entity, whatever the application has: the command itself made the tasks."""
    project = tmp_path_factory.mktemp("with_tasks")
    (project / VERSIONS).mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (project / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, project / name)
    (project / "app/main.py").write_text(MAIN)
    make_entity(project, "task")
    return project


@pytest.fixture
def project(with_tasks: Path, tmp_path: Path) -> Path:
    return shutil.copytree(with_tasks, tmp_path / "project")


def texts(project: Path) -> dict[str, str]:
    return {str(path.relative_to(project)): path.read_text() for path in project.rglob("*.py")}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("said", "one", "many"),
    [
        ("board", "board", "boards"),
        ("boards", "board", "boards"),
        ("category", "category", "categories"),
        ("categories", "category", "categories"),
        ("day", "day", "days"),
        ("box", "box", "boxes"),
        ("boxes", "box", "boxes"),
        ("address", "address", "addresses"),
        ("addresses", "address", "addresses"),
        ("branches", "branch", "branches"),
        ("houses", "house", "houses"),
        ("statuses", "status", "statuses"),
        ("order_items", "order_item", "order_items"),
        ("person people", "person", "people"),
        ("news news_items", "news", "news_items"),
    ],
)
def test_either_name_gives_the_other(said: str, one: str, many: str) -> None:
    """By a simple rule, unless both are said."""
    assert find_names(*said.split()) == (one, many)


def test_words_are_written_as_they_stand() -> None:
    """In code, in classes, in constants, in addresses and in sentences, with the article that fits."""
    text = '''"""An example, all examples and a parent."""
class ExampleStore: ...  # of an example
EXAMPLES = "/api/examples"
example_id = {"title": "an example"}, "example_not_found", "There is no such example."
def test_it_is_an_example(): """Another example's parent."""
Example = f"example {example['parent_id']}", "listExamples", ["examples"]
'''
    wanted = '''"""A line item, all line items and an order."""
class LineItemStore: ...  # of a line item
LINE_ITEMS = "/api/line-items"
line_item_id = {"title": "a line item"}, "line_item_not_found", "There is no such line item."
def test_it_is_a_line_item(): """Another line item's order."""
LineItem = f"line_item {line_item['order_id']}", "listLineItems", ["line-items"]
'''
    words = {"example": Names("line_item", "line_items"), "parent": Names("order", "orders")}
    assert respell(text, words) == wanted


def test_an_entity_is_made(project: Path) -> None:
    """Its folder, its tests, its migration and its registration; nothing of the examples is left."""
    before = texts(project)
    told = make_entity(project, "boards")
    made = {path: text for path, text in texts(project).items() if before.get(path) != text}
    assert sorted(made) == [
        *(f"app/boards/{name}.py" for name in ("__init__", "models", "queries", "routes")),
        "app/main.py",
        f"{VERSIONS}/0002_board.py",
        *(f"tests/boards/{name}.py" for name in ("__init__", "support", "test_isolation", "test_lists", "test_routes")),
    ]
    assert told.startswith("one board, many boards\n  app/boards, with its router in app/main.py\n")
    assert f"  {VERSIONS}/0002_board.py\n" in told
    assert told.endswith("make test ARGS=tests/boards\n")
    assert not [path for path, text in made.items() if re.search("(?i)example|devtools", text)]
    added = made["app/main.py"].splitlines()
    assert [line for line in added if line not in before["app/main.py"].splitlines()] == [
        "from app.boards.routes import router as boards",
        "ENTITIES: tuple[APIRouter, ...] = (tasks, boards)",
    ]
    migration = made[f"{VERSIONS}/0002_board.py"]
    assert 'revision = "0002_board"\ndown_revision = "0001_task"\n' in migration
    assert "create_roles" not in migration


def test_any_number_can_be_made(project: Path) -> None:
    """Children, children of children, words of SQL, several words and long ones: clean in the linter's eyes."""
    for name, plural, parent in (
        ("orders", "", ""),
        ("order_item", "", "order"),
        ("a_note_of_a_longer_name", "notes_of_a_longer_name", "order_items"),
    ):
        make_entity(project, name, plural, parent)
    assert "(tasks, orders, order_items, notes_of_a_longer_name)" in (project / "app/main.py").read_text()
    assert (project / VERSIONS / "0004_a_note_of_a_longer_name.py").exists()
    run(project, *RUFF, "check", "app", "tests")
    run(project, *RUFF, "format", "--check", "app", "tests")


def test_the_first_migration_creates_the_roles(with_tasks: Path) -> None:
    """In a project without any other, such as a copy that has just taken the tasks away."""
    assert "= (tasks,)\n" in (with_tasks / "app/main.py").read_text()
    migration = (with_tasks / VERSIONS / "0001_task.py").read_text()
    assert "down_revision = None\n" in migration
    assert '    create_roles()\n    protect("task")\n' in migration


def test_a_migration_follows_the_last_one(project: Path) -> None:
    """Whatever a team calls its revisions; the number is the next one that is free."""
    (project / VERSIONS / "a1b2.py").write_text(MIGRATION.format("a1b2", "0001_task"))
    (project / VERSIONS / "0005_more.py").write_text(MIGRATION.format("c3d4", "a1b2"))
    make_entity(project, "board")
    migration = (project / VERSIONS / "0006_board.py").read_text()
    assert 'revision = "0006_board"\ndown_revision = "c3d4"\n' in migration


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("= (tasks,)", "= (tasks, boards)"),
        ("= [tasks]", "= [tasks, boards]"),
        ("= (\n    tasks,\n    # and more\n)", "= (\n    tasks,\n    boards,\n    # and more\n)"),
        ("= tasks,", "= tasks, boards"),
        ("= ()", "= (boards,)"),
    ],
)
def test_a_tuple_or_list_of_any_form_is_added_to(tmp_path: Path, before: str, after: str) -> None:
    """With elements in one line, in many, or none."""
    main = tmp_path / "main.py"
    main.write_text(f"from app.tasks.routes import router as tasks\nÉTÉ: str; ENTITIES {before}\n")
    assert register(main, "app.boards.routes", "boards") == (
        "from app.boards.routes import router as boards\n"
        f"from app.tasks.routes import router as tasks\nÉTÉ: str; ENTITIES {after}\n"
    )


def test_a_file_that_is_not_formatted_stays_so(project: Path) -> None:
    """The command adds two lines to it, and leaves the others as they are."""
    main = project / "app/main.py"
    edit(main, "= (tasks,)", "= (tasks,)\nx = 'y'  ;  y=1")
    before = main.read_text()
    make_entity(project, "board")
    added = "from app.boards.routes import router as boards\n"
    assert main.read_text().replace(added, "") == before.replace("(tasks,)", "(tasks, boards)")


def test_a_router_that_is_registered_by_hand_stays_so(project: Path) -> None:
    """Where the list is of a form that cannot be added to, the command says which lines to add, and then goes on."""
    main = project / "app/main.py"
    edit(main, "= (tasks,)", "= tuple([tasks])")
    before = texts(project)
    with pytest.raises(EntityError) as told:
        make_entity(project, "board")
    assert "Add yourself `from app.boards.routes import router as boards` and `boards` where" in str(told.value)
    assert texts(project) == before
    edit(main, "= tuple([tasks])", "= tuple([tasks, boards])")
    edit(main, "from app.settings", "from app.boards.routes import router as boards\nfrom app.settings")
    before = texts(project)
    make_entity(project, "board")
    assert main.read_text() == before["app/main.py"]
    assert (project / "app/boards/routes.py").exists()


def test_a_cache_that_was_left_behind_is_no_entity(project: Path) -> None:
    """As after a change of branch."""
    (project / "app/boards/__pycache__").mkdir(parents=True)
    (project / "app/boards/__pycache__/models.cpython-311.pyc").touch()
    make_entity(project, "board")


def test_all_is_written_or_nothing(project: Path) -> None:
    """A folder that cannot be made ends it, and what was written before is taken back."""
    (project / "tests/boards").symlink_to("nowhere")
    before = texts(project)
    with pytest.raises(OSError, match="boards"):
        make_entity(project, "board")
    assert texts(project) == before
    assert not (project / "app/boards").exists()


STAND_INS = {
    "app/health.py": "",
    "tests/tokens.py": "",
    "tests/docs/__init__.py": "",
    f"app/{LONG}s/models.py": 'class Long(SQLModel, table=True):\n    __tablename__ = "' + LONG + '"\n'
    '    __table_args__ = (UniqueConstraint("user_id", "id"),)\n',
    f"tests/{LONG}s/support.py": f"{LONG.upper()}S = ''\ndef create_{LONG}(): ...\n",
}


@pytest.fixture(scope="module")
def untouched(with_tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which nothing more is ever made."""
    project = shutil.copytree(with_tasks, tmp_path_factory.mktemp("untouched") / "project")
    for path, text in STAND_INS.items():
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(text)
    return project


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (("",), "a name is words of a-z and 0-9 with _ between them"),
        (("Board",), "This one is 'Board'"),
        (("order-item",), "This one is 'order-item'"),
        (("2d_plan",), "This one is '2d_plan'"),
        (("a" * 28,), "27 characters at most"),
        (("person", "Leute"), "This one is 'Leute'"),
        (("class", "classes"), "'class' has a meaning in Python"),
        (("lists",), "'list' has a meaning in Python: take another name, such as list_entry"),
        (("warning",), "'warning' has a meaning in Python"),
        (("task",), "app/tasks is there already"),
        (("tasks", "todos"), "app/tasks is there already"),
        (("task", "todos"), "there is a table task already"),
        (("web",), "app/web is there already"),
        (("health", "healths"), "app/health.py is there already"),
        (("tokens",), "tests/tokens.py is there already"),
        (("docs",), "tests/docs is there already"),
        (("examples",), "'example' is taken by the template itself"),
        (("sample", "examples"), "'examples' is taken by the template itself"),
        (("news",), "is 'news' one or many? Say both: NAME=news PLURAL=..."),
        (("status",), "is 'status' one or many?"),
        (("news", "news"), "one and many need two names"),
        (("title",), "an entity's own code has a 'Title' already"),
        (("version",), "an entity's own code has a 'versions' already"),
        (("partial", "measure"), "app/main.py has something called measure already"),
        (
            ("card", "", "board"),
            "there is no entity 'board' to be the parent; there is a_name_of_twenty_six_chars, task",
        ),
        (("card", "", "card"), "there is no entity 'card' to be the parent; there is a_name_of_twenty_six_chars, task"),
        (("a_card_of_a_longer_name", "", LONG), "are too long together for the name of an index"),
    ],
)
def test_a_name_that_would_not_work_is_refused(untouched: Path, said: tuple[str, ...], told: str) -> None:
    """In one line, and nothing is written."""
    before = texts(untouched)
    with pytest.raises(EntityError) as refused:
        make_entity(untouched, *said)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert texts(untouched) == before


@pytest.mark.parametrize(
    ("path", "old", "new", "told"),
    [
        (f"{VERSIONS}/0001_task.py", '"0001_task"', '"0001_task', "0001_task.py, line 8: unterminated string"),
        (f"{VERSIONS}/0001_task.py", "revision = ", "other = ", "0001_task.py names no revision"),
        (f"{VERSIONS}/0001_task.py", "down_revision = None", 'down_revision = "0001_task"', "no migration is the last"),
        ("app/main.py", "ENTITIES", "ENTITIES = (", "main.py, line "),
        (
            "app/tasks/models.py",
            ", unique=True)",
            ")",
            'models.py needs Index("task_user_id_id", ',
        ),
        ("tests/tasks/support.py", "def create_task(", "def make_task(", "support.py needs TASKS and create_task()"),
        (
            "devtools/examples/models.py",
            "ExamplePatch(RowBody)",
            "ExamplePatch(Body)",
            "models.py has changed, and lacks",
        ),
    ],
)
def test_files_that_do_not_fit_are_told(project: Path, path: str, old: str, new: str, told: str) -> None:
    """In one line, which names the file, and nothing is written."""
    edit(project / path, old, new)
    before = texts(project)
    with pytest.raises(EntityError) as refused:
        make_entity(project, "card", parent="task")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert texts(project) == before


def test_two_last_migrations_are_told(project: Path) -> None:
    """One cannot follow both."""
    for revision in ("0002_a", "0002_b"):
        (project / VERSIONS / f"{revision}.py").write_text(MIGRATION.format(revision, "0001_task"))
    with pytest.raises(EntityError, match=r"not one line: 0002_a and 0002_b are both the last\. Mend them first$"):
        make_entity(project, "board")


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_is_as_ctrl_c(signum: signal.Signals) -> None:
    """What was begun is taken back: the process does not end where it stands."""
    code = (
        "import os; from devtools import entity, __main__;"
        f"entity.make_entity = lambda *_: os.kill(os.getpid(), {signum.value});"
        "__main__.cli(['entity', 'board'])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True)
    assert ended.returncode == 130


def test_the_command_says_in_one_line_why_not() -> None:
    """With exit code 1."""
    command = [sys.executable, "-m", "devtools", "entity", "examples", "--parent", "examples"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = "error: 'example' is taken by the template itself: take another name\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


OVERVIEW = ("from app.auth import CurrentUser", "from app.auth import CurrentAdministrator, CurrentUser")
AGREEMENT = "tests/migrations/test_migrations.py"
PROTECTION = "tests/db/test_row_security.py"


def pytest_in(folder: Path, *arguments: str) -> None:
    run(folder, sys.executable, "-m", "pytest", "-q", *arguments)


@pytest.mark.slow
@pytest.mark.skipif(not AS_IT_CAME, reason=REASON)
def test_the_pages_lead_to_a_copy_that_works(tmp_path: Path) -> None:
    """What README.md and docs/entity.md show, as it is pasted, in order: entities, a column, an overview, no tasks."""
    copy = copy_template(tmp_path / "a copy")
    give_python(copy)
    commands, registered = blocks("README.md", __file__)
    column, overview, without_tasks, dropped = blocks("docs/entity.md", __file__)
    run(copy, "bash", "-euc", commands)
    main = (copy / "app/main.py").read_text().splitlines()
    assert [line[0] for line in registered.splitlines() if (line[1:] in main) != (line[0] == "+")] == []
    apply(copy, column)
    queries = copy / "app/boards/queries.py"
    queries.write_text(queries.read_text().replace(*OVERVIEW) + "\n\n" + overview.partition("\n\n")[2].lstrip())
    pytest_in(copy, "tests/boards", "tests/cards", "tests/tasks", AGREEMENT, PROTECTION)
    run(copy, "bash", "-euc", without_tasks)
    (copy / VERSIONS / "0004_no_tasks.py").write_text(dropped)
    pytest_in(copy, "tests/boards", "tests/cards", AGREEMENT)
    run(copy, "make", "check")
