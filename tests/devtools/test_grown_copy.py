"""A copy that a team has made its own, and has built upon: all that holds for the template holds for it."""

import sys
from pathlib import Path

import pytest

from devtools.entity.registration import register
from tests.devtools.template import AS_IT_CAME, NAME, REASON, copy_template, give_python, mentions, run
from tests.docs.pages import ROOT, blocks

COPY = "-".join(("memo", "desk"))  # not written out: a name that stands in the files is refused
VERSIONS = "app/migrations/versions"
PUBLIC = '''"""What anyone may ask."""

from fastapi import APIRouter

router = APIRouter(prefix="/opening-hours")


@router.get("")
async def read_opening_hours() -> dict[str, str]:
    """Tell when the desk is open."""
    return {"monday": "9-17"}
'''
COLUMN = ("    completed: bool\n    created_at", "    completed: bool\n    color: str = Column({})\n    created_at")
OPTIONS = 'sa_type=Text, sa_column_kwargs={"server_default": "white"}'
MIGRATION = '''"""Add color to board."""

import sqlalchemy as sa
from alembic import op

revision = "0004_color"
down_revision = "0003_order"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("board", sa.Column("color", sa.Text(), nullable=False, server_default="white"))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("board", "color")
'''


def take_tasks_away(copy: Path) -> None:
    """As docs/entity.md says, in a copy that no database knows yet."""
    _, _, without_tasks, _ = blocks("docs/entity.md", str(ROOT / "tests/devtools/test_entity.py"))
    run(copy, "bash", "-euc", without_tasks)
    (copy / VERSIONS / "0001_task.py").unlink()


def add_column(copy: Path) -> None:
    """A migration of the team's own, the fourth one."""
    models = copy / "app/boards/models.py"
    models.write_text(models.read_text().replace(COLUMN[0], COLUMN[1].format(OPTIONS)))
    (copy / VERSIONS / "0004_color.py").write_text(MIGRATION)


def add_router(copy: Path, name: str, text: str) -> None:
    (copy / f"app/{name}.py").write_text(text)
    main = copy / "app/main.py"
    main.write_text(register(main, f"app.{name}", name))


@pytest.mark.slow
@pytest.mark.skipif(not AS_IT_CAME, reason=REASON)
def test_a_copy_that_grew_passes_the_tests(tmp_path: Path) -> None:
    """Renamed, without tasks, with three entities, one of them a child, four migrations, and a router that is open.

    The page's forecasts come along, with a metric, a log field and a span of their own.
    """
    copy = copy_template(tmp_path / "a copy")
    give_python(copy)
    run(copy, "make", "rename", f"NAME={COPY}")
    take_tasks_away(copy)
    for entity in (["NAME=boards"], ["NAME=card", "PARENT=board"], ["NAME=order"]):
        run(copy, "make", "entity", *entity)
    add_column(copy)
    add_router(copy, "hours", PUBLIC)
    add_router(copy, "forecasts", blocks("docs/observe.md", str(ROOT / "tests/telemetry/test_observe_page.py"))[0])
    run(copy, "make", "check")
    tests = [sys.executable, "-m", "pytest", "-q", "-n", "3", "--dist", "worksteal", "-m", "not slow"]
    run(copy, "bash", "-c", '"$@" || "$@" --last-failed', "tests", *tests)  # as `.ci/run` does
    run(copy, "make", "clean")  # its databases are elsewhere
    assert mentions(copy, NAME) == []
    assert [str(path) for path in copy.rglob("*task*")] == []
