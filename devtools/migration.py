"""`make migration`: what the models say and the development database does not have becomes a migration."""

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from unicodedata import normalize

from alembic import command
from alembic.config import CommandLine, Config

from app import migrations
from app.settings import Settings, SettingsError
from devtools import history
from devtools.differences import Differences
from devtools.environment import HOME

ROOT = HOME.parent
NUMBER = re.compile(r"(\d+)_.*\.py")
MESSAGE = re.compile(r"[^\W_][^\"\\]{0,99}")  # it becomes the first line of the file, a docstring
MAX_REVISION = 32  # characters, in Alembic's table
AGREE = "The models and the migrations agree, so there is nothing to write."
READ_IT = "Read it: Alembic does not see renames, policies, new values of an enum, or how to fill a column."


def write_migration(settings: Settings, message: str, say: Callable[[str], None]) -> None:
    """Write the next migration, and say what must be looked at. The database is migrated first.

    Raises:
        SettingsError: `message` cannot be the name of a migration.
        UncleanDatabase: the database is not what the migrations make.
        BrokenMigrations, MigrationFailed, DatabaseUnavailable: see these classes.
    """
    number = _next_number()
    revision = revision_id(message, number)
    if line := history.migrate(settings).edited():
        raise history.UncleanDatabase(line)
    differences = Differences(migrations.VERSIONS, lambda message: revision_id(message, number + 1))
    sentence = message[0].upper() + message[1:].rstrip(".")
    written = _write(migrations.alembic_config(settings), revision, sentence, differences, say)
    for name in written:
        say(f"{history.FOLDER}/{name} is written.")
    say(READ_IT if written else AGREE)


def _write(
    config: Config, revision: str, sentence: str, differences: Differences, say: Callable[[str], None]
) -> list[str]:
    """Write one file or two, and return their names; or none, if nothing differs.

    They get their place when they are complete and warned of: `make dev` applies what it sees there.
    """
    HOME.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=HOME) as folder:
        config.cmd_opts = Namespace(quiet=True)
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", f"{migrations.VERSIONS}\n{folder}".replace("%", "%%"))
        command.revision(
            config,
            sentence,
            autogenerate=True,
            rev_id=revision,
            version_path=folder,
            process_revision_directives=differences,
        )
        written = sorted(Path(folder).glob("*.py")) if differences.found else []
        for file in written:
            _format(file)
        for line in differences.warnings:
            say(line)
        for file in written:
            file.replace(migrations.VERSIONS / file.name)
        return [file.name for file in written]


def revision_id(message: str, number: int) -> str:
    """Return the id, and so the file's name, of the migration that does what `message` says; or raise SettingsError."""
    words = re.findall("[a-z0-9]+", normalize("NFKD", message).encode("ascii", "ignore").decode().lower())
    if not MESSAGE.fullmatch(message) or not message.isprintable() or not words:
        raise SettingsError('Say in a few words what it does, without quotes: make migration M="add color to board".')
    name, room = "_".join(words), MAX_REVISION - len(f"{number:04}_")
    if len(name) > room:
        name = name[: room + 1].rpartition("_")[0] or name[:room]
    return f"{number:04}_{name}"


def run_alembic(settings: Settings, arguments: Sequence[str]) -> None:
    """Run Alembic's command line on the database of `settings`."""
    assert settings.database_url
    os.environ["DATABASE_URL"] = settings.database_url.get_secret_value()
    os.environ["DATABASE_MIGRATION_URL"] = migrations.owner_url(settings)  # env.py would take that of `.env`
    os.chdir(ROOT)  # where pyproject.toml is
    CommandLine(prog="alembic").main(list(arguments))
    history.remember(settings)


def _next_number() -> int:
    found = [NUMBER.fullmatch(file.name) for file in migrations.VERSIONS.iterdir()]
    return max((int(number[1]) for number in found if number), default=0) + 1


def _format(file: Path) -> None:
    """Write the file as `make check` wants it."""
    text = "".join(line for line in file.read_text().splitlines(keepends=True) if not line.startswith("    # ###"))
    file.write_text(text)
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--quiet", f"--config={ROOT / 'pyproject.toml'}", str(file)]
    subprocess.run([*ruff, "check", "--fix", "--select=I,F401", *options], check=True)  # noqa: S603  our own tools
    subprocess.run([*ruff, "format", *options], check=True)  # noqa: S603
