"""Alembic's entry: which models there are, and which database."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import create_engine, event, pool
from sqlmodel import SQLModel

import app.main  # noqa: F401  importing an entity registers its table
from app.db.addresses import resolve_hosts
from app.migrations import applied, is_newer, locks, online, owner_url, verify_applied
from app.migrations.report import Report
from app.settings import Settings

COMPARED = ("alembic.autogenerate.*", "alembic.ext.checkconstraint_byname")  # the second: checks, by name
CONNECTION = {"application_name": locks.NAME, "connect_timeout": 10, "keepalives_idle": 30}

attributes = context.config.attributes
attributes["settings"] = settings = attributes.get("settings") or Settings.load()
patience = attributes.setdefault("patience", locks.Patience(settings.migrate_timeout_s))
report: Report | None = attributes.get("report")  # of `migrate`; Alembic's own commands have none
configure = partial(
    context.configure,
    target_metadata=SQLModel.metadata,
    compare_server_default=True,
    autogenerate_plugins=COMPARED,
    transaction_per_migration=True,  # no migration holds the locks of another
)
if context.is_offline_mode():
    configure(dialect_name="postgresql", literal_binds=True, dialect_opts={"paramstyle": "named"})
    for limit, value in locks.OFFLINE_LIMITS.items():
        context.execute(f"SET {limit} = '{value}'")
    context.run_migrations()
else:
    engine = create_engine(
        owner_url(settings),
        poolclass=pool.NullPool,
        connect_args=CONNECTION,
        isolation_level="READ COMMITTED",  # else an index built concurrently would wait for the transaction of the lock
        hide_parameters=True,
    )
    event.listen(engine, "do_connect", resolve_hosts)
    locks.limit_waits(engine, patience)
    with locks.only_migration(engine, patience) as lock, engine.connect() as connection:

        def _before_commit(
            ctx: MigrationContext,  # noqa: ARG001  Alembic gives each by its name
            step: MigrationInfo,
            heads: Collection[Any],
            run_args: Mapping[str, Any],  # noqa: ARG001
        ) -> None:
            applied.keep(connection, context.script, heads)
            locks.verify_held(lock)
            if report:
                report.begin_commit(str(step.up_revision_id), heads)

        def _after_commit(*_: object) -> None:
            if report and report.end_commit():
                patience.stop_clock()

        newer = False
        if report:
            heads = MigrationContext.configure(connection).get_current_heads()
            report.start(heads)
            verify_applied(connection, context.script, heads)
            newer = attributes["to_head"] and is_newer(connection, context.script, heads)
            connection.rollback()
            event.listen(connection, "begin", _after_commit)  # of the transaction before
        if not newer:
            online.watch_changes(connection)
            configure(connection=connection, on_version_apply=_before_commit)
            context.run_migrations()
            _after_commit()
            connection.commit()
