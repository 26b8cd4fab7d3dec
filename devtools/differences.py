"""What differs between the models and the database: completed by what Alembic cannot know, and what to look at."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Column, TypeDecorator
from sqlmodel import SQLModel

from devtools.history import UncleanDatabase
from devtools.indexes import ConcurrentOp, flatten, put_indexes_first

RECIPE = "docs/operate.md has the steps: “A column that every row must have”."
RENAME = "docs/operate.md has the steps: “Rename or drop a column”."
OWNER, ORGANIZATION = "user_id", "org_id"


class ProtectOp(ops.MigrateOperation):
    """Row-level security for a new table of users' rows."""

    def __init__(self, table: str) -> None:
        self.table = table


@renderers.dispatch_for(ProtectOp)
def _render_protect(context: AutogenContext, op: ProtectOp) -> str:
    context.imports.add("from app.migrations.row_security import protect")
    return f'protect("{op.table}")'


class Differences:
    """Completes a migration that Alembic is about to write. Then `found` and `warnings` tell of it.

    Where an index has to come later, a second migration gets the id that `name_second` makes of what it does.
    """

    def __init__(self, versions: Path, name_second: Callable[[str], str]) -> None:
        self.found = False
        self.warnings: list[str] = []
        self._versions, self._name_second = versions, name_second

    def __call__(self, _: MigrationContext, __: Any, directives: list[ops.MigrationScript]) -> None:
        """Change what is written, or write nothing where nothing differs. It has the signature of Alembic's hook."""
        upgrade, downgrade = directives[0].upgrade_ops, directives[0].downgrade_ops
        assert upgrade
        assert downgrade
        steps = list(flatten(upgrade.ops))
        self._refuse_strangers(steps)
        self.found = bool(steps)
        self.warnings = [*_new_tables(steps), *_tables(steps), *_columns(steps), *_unnamed_checks()]
        if not steps:
            directives.clear()
        for step in (*steps, *flatten(downgrade.ops)):
            _simplify_types(step)
        new = (step for step in steps if isinstance(step, ops.CreateTableOp))
        upgrade.ops.extend(ProtectOp(step.table_name) for step in new if OWNER in _columns_of(step))
        later, undo_later = put_indexes_first(upgrade, downgrade)
        if later:
            directives.append(self._second(directives[0], later, undo_later))

    def _second(
        self, first: ops.MigrationScript, steps: Sequence[ConcurrentOp], undo: Sequence[ConcurrentOp]
    ) -> ops.MigrationScript:
        message = f"Index {' and '.join(sorted({step.table for step in steps}))}"
        return ops.MigrationScript(
            self._name_second(message),
            ops.UpgradeOps(steps),
            ops.DowngradeOps(undo),
            message=message,
            version_path=first.version_path,
        )

    def _refuse_strangers(self, steps: Sequence[ops.MigrateOperation]) -> None:
        """Raise UncleanDatabase if a table would be dropped that no migration speaks of."""
        texts = "".join(file.read_text() for file in self._versions.glob("*.py"))
        dropped = [step.table_name for step in steps if isinstance(step, ops.DropTableOp)]
        if strangers := [name for name in dropped if f'"{name}"' not in texts and f"'{name}'" not in texts]:
            raise UncleanDatabase(
                f"Neither the models nor the migrations know {', '.join(strangers)}: drop what was made by hand, or"
                " `make reset`; or import the model into `app/main.py`."
            )


def _columns_of(step: ops.CreateTableOp) -> set[str]:
    return {item.name for item in step.columns if isinstance(item, Column)}


def _simplify_types(step: Any) -> None:
    """Let the migration name PostgreSQL's types, and no class of the application or of SQLModel."""
    for column in (*getattr(step, "columns", ()), getattr(step, "column", None)):
        if isinstance(column, Column) and isinstance(column.type, TypeDecorator):
            column.type = column.type.impl_instance
    for name in ("existing_type", "modify_type"):
        if isinstance(kind := getattr(step, name, None), TypeDecorator):
            setattr(step, name, kind.impl_instance)


def _new_tables(steps: Sequence[Any]) -> Iterator[str]:
    for step in steps:
        if not isinstance(step, ops.CreateTableOp):
            continue
        name, columns = step.table_name, _columns_of(step)
        by_organization = f'protect("{name}", by="{ORGANIZATION}")'
        if ORGANIZATION in columns:
            yield f"{name} has an {ORGANIZATION}: if its rows are the organization's, say {by_organization}."
        elif OWNER not in columns:
            yield f'{name} has no {OWNER}: nobody may read it unless its migration says share("{name}").'


def _tables(steps: Sequence[Any]) -> Iterator[str]:
    created = [step.table_name for step in steps if isinstance(step, ops.CreateTableOp)]
    dropped = [step.table_name for step in steps if isinstance(step, ops.DropTableOp)]
    for name in dropped:
        yield f"{name} is dropped with all its rows." + (
            f' If its class has a new name, keep the table\'s: `__tablename__ = "{name}"`.' if created else ""
        )


def _columns(steps: Sequence[Any]) -> Iterator[str]:
    added = [step for step in steps if isinstance(step, ops.AddColumnOp)]
    for step in steps:
        if isinstance(step, ops.DropColumnOp):
            yield _dropped(step, [other.column.name for other in added if other.table_name == step.table_name])
        elif isinstance(step, ops.AddColumnOp):
            yield from _added(step.table_name, step.column)
        elif isinstance(step, ops.AlterColumnOp):
            yield from _altered(step)
        elif isinstance(step, ops.DropConstraintOp) and step.constraint_type == "check":
            yield f"{step.table_name}: the check {step.constraint_name} is dropped: none of its model has this name."


def _dropped(step: ops.DropColumnOp, added: Sequence[str]) -> str:
    table, name = step.table_name, step.column_name
    line = f"{table}.{name} is dropped with its values."
    if added:
        line += f" If {added[0]} is its new name: {RENAME}"
    return line + (f" The policies of {table} use it: drop them before." if name == OWNER else "")


def _altered(step: ops.AlterColumnOp) -> Iterator[str]:
    name = f"{step.table_name}.{step.column_name}"
    if step.modify_nullable is False:
        yield f"{name} becomes NOT NULL, which fails where a row has no value yet. {RECIPE}"
    if step.modify_server_default is None:
        yield (
            f"{name} loses its default, since its model has none, and old code may insert rows without a value."
            ' To keep it: sa_column_kwargs={"server_default": …}.'
        )


def _added(table: str, column: Column[Any]) -> Iterator[str]:
    has_value = column.nullable or column.server_default is not None or column.identity or column.computed
    if not has_value:
        name = f"{table}.{column.name}"
        yield f"{name} is NOT NULL and has no server_default, which fails where {table} has rows. {RECIPE}"
    if column.name == OWNER:
        yield f'{table} gets a {OWNER}: its migration must say protect("{table}").'


def _unnamed_checks() -> Iterator[str]:
    for table in SQLModel.metadata.sorted_tables:
        for constraint in table.constraints:
            if isinstance(constraint, CheckConstraint) and not isinstance(constraint.name, str):
                yield f"{table.name}: a check of its model has no name, so Alembic cannot compare it."
