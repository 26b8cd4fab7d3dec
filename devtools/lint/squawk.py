"""What squawk finds in the SQL of the migrations."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from devtools.differences import RECIPE, RENAME
from devtools.lint.emission import Finding, Migration

POSTGRESQL = "16"  # the oldest that the roles of the API work on
# Rules that do not fit this project, each with its reason.
EXCLUDED = {
    "prefer-text-field": "SQLModel's `max_length` makes a VARCHAR(n), and a longer one needs no rewrite",
}
# A column of these types may be a count, such as `version`. A key of the type runs out.
KEYS_ONLY = {"prefer-bigint-over-int", "prefer-bigint-over-smallint"}
KEY = re.compile(r'\b(id|\w+_id)"? (SMALL)?(INTEGER|INT|SERIAL)\b', re.IGNORECASE)
INDEX_FIRST = "Let {}_index(…, concurrently=True) of app.migrations.online come first."
DROP = f"If no code that still runs uses it, say so: `# squawk-ignore {{}}: unused since <release>`. {RENAME}"
KEEP_DEFAULT = (
    "Keep it in the model, by sa_column_kwargs={'server_default': …}. If all code that still runs gives a value itself,"
    " say so: `# squawk-ignore ban-drop-default: each row gets its value since <release>`."
)
HELP = {  # what to do here, where squawk would name the SQL
    "require-concurrent-index-creation": INDEX_FIRST.format("create"),
    "require-concurrent-index-deletion": INDEX_FIRST.format("drop"),
    "adding-required-field": RECIPE,
    "adding-not-nullable-field": RECIPE,
    "ban-drop-column": DROP.format("ban-drop-column"),
    "ban-drop-table": DROP.format("ban-drop-table"),
    "renaming-column": RENAME,
    "renaming-table": f"Keep its name, by `__tablename__` in the renamed class. {RENAME}",
    "ban-drop-default": KEEP_DEFAULT,
    "ban-drop-not-null": f"Give it a server_default in its place: old code then finds a value. {RENAME}",
}


class SquawkFailed(RuntimeError):
    """squawk does not run, or does not say what it found. The message is one line."""


def find(migrations: Sequence[Migration]) -> Iterator[Finding]:
    """Yield what squawk finds in statements of the migrations, not in those of Alembic; or raise SquawkFailed."""
    with TemporaryDirectory() as folder:
        files = {f"{folder}/{number}.sql": migration for number, migration in enumerate(migrations)}
        for path, migration in files.items():
            sql = "".join(statement.sql for statement in migration.statements)
            Path(path).write_text(sql.replace("squawk-ignore", ""), encoding="utf-8")  # a marker is in Python
        told = _run(list(files))
    for found in told:
        migration, rule = files[found["file"]], found["rule_name"]
        statement = migration.statement_at(found["line"])
        if statement.line and (rule not in KEYS_ONLY or KEY.search(statement.sql)):
            told_so = f"{found['message']} {HELP.get(rule, found['help'] or '')}"
            yield Finding(migration.file, statement.line, rule, " ".join(told_so.split()))


def _run(paths: Sequence[str]) -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("squawk")
    options = ["--reporter=json", f"--pg-version={POSTGRESQL}", f"--exclude={','.join(EXCLUDED)}"]
    try:
        ended = subprocess.run([program, *options, *paths], capture_output=True, text=True, check=False)  # noqa: S603
        told: list[dict[str, Any]] = json.loads(ended.stdout)
    except OSError as error:
        raise SquawkFailed(f"squawk does not run: {error.strerror}: {program}") from None
    except ValueError:
        raise SquawkFailed(f"squawk failed: {' '.join(ended.stderr.split()) or ended.returncode}") from None
    return told
