"""`make migration` and `make migrate`: what they write, what they warn of, what they refuse."""

from pathlib import Path

import pytest

from tests.devtools.dev import Project

BOARD = """
from datetime import datetime
from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, Text, func
from sqlmodel import Field, SQLModel
from sqlalchemy.dialects.postgresql import JSONB

class Board(SQLModel, table=True):
    __table_args__ = (CheckConstraint("length(name) > 0", name="board_name"),)
    id: int = Field(default=None, primary_key=True, sa_type=BigInteger, sa_column_args=[Identity(always=True)])
    user_id: str = Field(sa_type=Text)
    name: str
    data: dict = Field(sa_type=JSONB)

class Country(SQLModel, table=True):
    code: str = Field(primary_key=True)
"""


@pytest.fixture
def project(tmp_path: Path, database_url: str) -> Project:
    project = Project(tmp_path, DATABASE_URL=database_url)
    (tmp_path / "app/boards.py").write_text(BOARD)
    project.edit("app/main.py", "from app.settings", "import app.boards\nfrom app.settings")
    return project


def show(*a):
    for r in a:
        print(r.returncode, r.stdout, r.stderr)


def test_x(project: Project) -> None:
    show(project.run("migration"))
    show(project.run("migration", "add boards"))
    for f in sorted(project.versions.glob("000[2-9]*")):
        print(f.name, f.read_text())
    show(project.run("migration", "again"))
    show(project.run("alembic", "check"))
    project.edit("app/boards.py", "name: str", "title: str")
    show(project.run("migration", "rename"))
    for f in sorted(project.versions.glob("000[3-9]*")):
        print(f.name, f.read_text())
    show(project.run("migrate"))
    show(project.run("migrate", "--down", "1"))
    show(project.run("migrate", "--down", "0"))
    show(project.run("migrate", "--down", "9"))
    show(project.run("migrate", "--down", "nothing"))
    show(project.run("alembic", "history"))
    raise SystemExit


def test_y(project: Project) -> None:
    show(project.run("migration", "add boards"))
    file = project.versions / "0002_add_boards.py"
    project.edit(
        "app/boards.py",
        "name: str",
        "title: str\n    level: int\n    color: str = Field(sa_column_kwargs={'server_default': 'red'})",
    )
    project.edit("app/boards.py", "length(name)", "length(title)")
    project.edit("app/boards.py", "board_name", "board_title")
    show(project.run("migration", "rename"))
    for f in sorted(project.versions.glob("000[3-9]*")):
        print(f.name, f.read_text())
    show(project.run("migrate"))
    name = str(file.relative_to(project.folder))
    project.edit(name, 'protect("board")', 'protect("board")  # a comment')
    show(project.run("migrate"))
    project.edit(name, 'protect("board")', 'protect("board"); protect("country")')
    show(project.run("migrate"))
    show(project.run("migration", "more"))
    show(project.run("reset"))
    project.edit(name, 'protect("country")', 'op.execute("SELECT 1/0")')
    show(project.run("migrate", "--down", "base"))
    show(project.run("migrate"))
    project.edit(name, 'op.execute("SELECT 1/0")', "nonsense()")
    show(project.run("migrate"))
    file.rename(project.folder / "x.py")
    project.versions.joinpath("0003_rename.py").unlink()
    show(project.run("migrate"))
    import psycopg2

    c = psycopg2.connect(project.environment["DATABASE_URL"].replace("+psycopg2", ""))
    c.autocommit = True
    c.cursor().execute("create table stray(id int)")
    project.folder.joinpath("app/boards.py").write_text("")
    show(project.run("migration", "more"))
    c.cursor().execute("update alembic_version set version_num='0009_other'")
    show(project.run("migration", "more"))
    show(project.run("migrate"))
    raise SystemExit
