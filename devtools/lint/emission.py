"""The SQL that each migration emits without a database, and the line of its file that each statement comes from."""

from inspect import currentframe
from io import StringIO
from pathlib import Path
from traceback import extract_tb, walk_stack
from typing import NamedTuple

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationStep
from alembic.script import Script, ScriptDirectory

from app import migrations
from app.migrations import backfill
from app.settings import Settings
from devtools.history import FOLDER


class Statement(NamedTuple):
    """What was written at once, and the line of the migration that did it; Alembic's own statements have no line."""

    sql: str
    line: int
    is_backfill: bool = False


class Finding(NamedTuple):
    """What is wrong with a line of a migration."""

    file: Path
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{FOLDER}/{self.file.name}:{self.line}: {self.rule}: {self.text}"


class Migration(NamedTuple):
    """A migration, the statements of its upgrade, and what kept it from emitting more."""

    file: Path
    statements: list[Statement]
    faults: list[Finding]

    def statement_at(self, line: int) -> Statement:
        """Return the statement in this line of all that was emitted, counted from 0."""
        for statement in self.statements:
            line -= statement.sql.count("\n")
            if line < 0:
                return statement
        return self.statements[-1]


class _Recorder(StringIO):
    """What Alembic writes SQL to. It notes which line of `file` is being run."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self._file = file
        self.statements: list[Statement] = []

    def write(self, text: str) -> int:
        is_backfill = False
        for frame, line in walk_stack(currentframe()):
            if frame.f_code.co_filename == self._file:
                self.statements.append(Statement(text, line, is_backfill))
                break
            is_backfill |= frame.f_code.co_filename == backfill.__file__
        else:
            self.statements.append(Statement(text, 0))
        return len(text)


def emit_migrations() -> list[Migration]:
    """Return all migrations, each after those that it builds on; or raise BrokenMigrations. It needs no database."""
    migrations.revisions()
    config = migrations.alembic_config(Settings.model_construct())
    directory = ScriptDirectory.from_config(config)
    return [_emit(config, directory, script) for script in reversed([*directory.walk_revisions()])]


def _emit(config: Config, directory: ScriptDirectory, script: Script) -> Migration:
    file = str(script.module.__file__)
    config.output_buffer = recorder = _Recorder(file)
    migration = Migration(Path(file), recorder.statements, [])
    step = MigrationStep.upgrade_from_script(directory.revision_map, script)
    before = script.down_revision or "base"
    try:
        with EnvironmentContext(config, directory, fn=lambda *_: [step], as_sql=True, starting_rev=before):
            directory.run_env()
    except Exception as error:  # noqa: BLE001  a migration may raise anything
        lines = [frame.lineno or 0 for frame in extract_tb(error.__traceback__) if frame.filename == file]
        reason = (
            f"{type(error).__name__}: {migrations.first_line(error)}. There is no database here: what needs one comes"
            " after `if not op.get_context().as_sql:`."
        )
        migration.faults.append(Finding(migration.file, lines[-1] if lines else 1, "needs-database", reason))
    return migration
