"""The schema's history, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def config(url: str | None = None) -> Config:
    """Return Alembic's configuration for the database at `url`."""
    config = Config(toml_file=Path(__file__).parents[2] / "pyproject.toml")
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def head() -> str:
    """Return the revision that this code was written for."""
    revision = ScriptDirectory.from_config(config()).get_current_head()
    assert revision  # there is at least the first migration
    return revision


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at `url` to `revision`."""
    command.upgrade(config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the database at `url` back to `revision`."""
    command.downgrade(config(url), revision)
