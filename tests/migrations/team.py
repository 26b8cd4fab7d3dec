"""A team's migrations, put into a copy of the application."""

from pathlib import Path
from textwrap import indent

from app import migrations

LAST = migrations.revisions().head
VERSIONS = "app/migrations/versions"
HEAD = """
import sqlalchemy as sa
from alembic import op
from app.migrations.backfill import backfill
from app.migrations.online import create_index, drop_index
from app.migrations.row_security import every_row, protect

revision, down_revision = {revision!r}, {before!r}


def downgrade(): ...


def upgrade():
"""


def add_migration(copy: Path, code: str, revision: str = "next", before: str = LAST) -> None:
    """Write a migration that runs `code` into the copy of the application, or write it anew."""
    text = HEAD.format(revision=revision, before=before) + indent(code, "    ") + "\n"
    (copy / VERSIONS / f"{revision}.py").write_text(text)
