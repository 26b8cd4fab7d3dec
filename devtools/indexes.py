"""Indexes of tables that have rows: a migration makes or drops them while others write, and before all else."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops

IndexOp = ops.CreateIndexOp | ops.DropIndexOp


class ConcurrentOp(ops.MigrateOperation):
    """An index that is made or dropped while others write."""

    def __init__(self, step: IndexOp) -> None:
        self.step, self.table = step, step.table_name or ""


@renderers.dispatch_for(ConcurrentOp)
def _render_concurrent(context: AutogenContext, op: ConcurrentOp) -> str:
    name = "create_index" if isinstance(op.step, ops.CreateIndexOp) else "drop_index"
    context.imports.add(f"from app.migrations.online import {name}")
    call = render_op_text(context, op.step).replace("table_name=", "").replace(", unique=False", "")
    return f"{call.removeprefix('op.').removesuffix(')')}, concurrently=True)"


def put_indexes_first(
    upgrade: ops.UpgradeOps, downgrade: ops.DowngradeOps
) -> tuple[list[ConcurrentOp], list[ConcurrentOp]]:
    """Put what can be concurrent first. Return the steps, up and down, of a migration that must come after this one.

    An index of a table that gets a column may need it, so it is left. One that goes with its table is taken out.
    """
    created, dropped, added = (_tables(upgrade, kind) for kind in (ops.CreateTableOp, ops.DropTableOp, ops.AddColumnOp))
    added_again = _tables(upgrade, ops.DropColumnOp)  # by the downgrade
    _take(upgrade, lambda step: isinstance(step, ops.DropIndexOp) and step.table_name in dropped)
    _take(downgrade, lambda step: isinstance(step, ops.DropIndexOp) and step.table_name in created)

    def is_online(step: Any, *, after: set[str]) -> bool:
        waits = isinstance(step, ops.CreateIndexOp) and step.table_name in after
        return isinstance(step, IndexOp) and step.table_name not in created | dropped and not waits

    first = _take(upgrade, lambda step: is_online(step, after=added))
    later = _take(upgrade, lambda step: is_online(step, after=set()))
    names = {step.index_name for step in later}
    undo_later = _take(downgrade, lambda step: isinstance(step, ops.DropIndexOp) and step.index_name in names)
    undo_first = _take(downgrade, lambda step: is_online(step, after=added_again))
    upgrade.ops[:0], downgrade.ops[:0] = map(ConcurrentOp, first), map(ConcurrentOp, undo_first)
    return [*map(ConcurrentOp, later)], [*map(ConcurrentOp, undo_later)]


def flatten(steps: Sequence[Any]) -> Iterator[Any]:
    """Yield the steps, those of containers too."""
    for step in steps:
        if isinstance(step, ops.OpContainer):
            yield from flatten(step.ops)
        else:
            yield step


def _tables(container: ops.OpContainer, kind: type[Any]) -> set[str]:
    """Return the names of the tables that a kind of step is about."""
    return {step.table_name for step in flatten(container.ops) if isinstance(step, kind)}


def _take(container: ops.OpContainer, wanted: Callable[[Any], bool]) -> list[Any]:
    """Remove the steps that are wanted, and return them."""
    taken = []
    for step in [*container.ops]:
        if isinstance(step, ops.OpContainer):
            taken += _take(step, wanted)
        elif wanted(step):
            container.ops.remove(step)
            taken.append(step)
    return taken
