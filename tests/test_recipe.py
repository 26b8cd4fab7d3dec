"""The recipe for a new entity, of README.md and docs/entity.md, followed to the letter."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KNOWS_BOTH = """
from app import migrations
assert migrations.revisions() == ("0002_note", {"0001_task"})
"""
A_CHILD = """
def test_a_note_belongs_to_a_task_of_its_user(alice, bob):
    mine, other, foreign = (c.post("/api/tasks", json={"title": "a task"}).json()["id"] for c in (alice, alice, bob))
    wanted = {"title": "a note", "task_id": mine}
    note = alice.post("/api/notes", json=wanted)
    assert (note.status_code, note.json()["task_id"]) == (201, mine)
    assert alice.put(note.headers["Location"], json=note.json() | {"task_id": other}).json() == note.json()
    refused = [alice.post("/api/notes", json=wanted | {"task_id": task}) for task in (foreign, foreign + 1000)]
    assert [answer.status_code for answer in refused] == [409, 409]
    one, two = (answer.json() | {"trace_id": ""} for answer in refused)
    assert one == two and one["code"] == "conflict"
    alice.post("/api/notes", json=wanted | {"task_id": other})
    assert alice.get(f"/api/notes?task_id={mine}&q=note").json() == [note.json()]
    assert alice.get("/api/notes?task_id=0").status_code == 422
    alice.delete(f"/api/tasks/{mine}")
    assert [left["task_id"] for left in alice.get("/api/notes").json()] == [other]
"""
AGREEMENT = "tests/migrations/test_migrations.py::test_the_models_are_what_was_migrated"
PROTECTION = "tests/db/test_row_security.py::test_every_table_of_users_is_protected"
COPIED = ("app", "devtools", "tests", "pyproject.toml")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def run(project: Path, *command: str) -> None:
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr


def register(main: Path, diff: str) -> None:
    """Apply the README's three lines: an import among the imports, and one line for another."""
    imported, old, new = (line[1:] for line in diff.strip().splitlines())
    text = main.read_text()
    assert old in text
    main.write_text(text.replace(old, new).replace("from app.settings", f"{imported}\nfrom app.settings", 1))


def apply(project: Path, diff: str) -> None:
    """Apply a diff without line numbers: each line that is there already is looked for below the one before it."""
    for part in diff.split("--- ")[1:]:
        name, *lines = part.rstrip("\n").split("\n")
        path, at = project / name, 0
        text = path.read_text()
        for kind, line in ((line[:1], line[1:] + "\n") for line in lines):
            if kind == "+":
                text = text[:at] + line + text[at:]
            else:
                at = text.index(line, at)
                text = text[:at] + text[at:].replace(line, "", 1) if kind == "-" else text
            at += len(line) if kind != "-" else 0
        path.write_text(text)


def add_overview(queries: Path, overview: str) -> None:
    """Add the page's store of an administrator."""
    imported = "from app.auth import CurrentAdministrator, "
    queries.write_text(queries.read_text().replace("from app.auth import ", imported) + "\n\n" + overview)


@pytest.mark.slow
def test_a_new_entity_is_a_copy_of_one_folder(tmp_path: Path) -> None:
    """Copied, renamed and registered as the README says, the entity migrates and passes its own tests.

    Code of two revisions knows which is the older one. Then docs/entity.md makes it a child of the first entity.
    """
    project = tmp_path / "a copy"
    for name in COPIED:
        source, target = ROOT / name, project / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    readme = (ROOT / "README.md").read_text().partition("## Add an entity")[2].partition("\n## ")[0]
    page = (ROOT / "docs/entity.md").read_text()
    run(project, "bash", "-euc", blocks(readme, "sh")[0])
    register(project / "app/main.py", blocks(readme, "diff")[0])
    run(project, sys.executable, "-c", KNOWS_BOTH)
    run(project, sys.executable, "-m", "pytest", "-q", "tests/notes", "tests/tasks/test_isolation.py")
    apply(project, blocks(page, "diff")[0])
    add_overview(project / "app/notes/queries.py", blocks(page, "python")[0])
    (project / "tests/notes/test_child.py").write_text(A_CHILD)
    run(project, sys.executable, "-m", "pytest", "-q", "tests/notes", AGREEMENT, PROTECTION)
    run(project, sys.executable, "-m", "mypy", "app/notes")
