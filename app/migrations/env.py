"""Alembic's entry: which models there are, and which database."""

from alembic import context
from sqlalchemy import create_engine, pool
from sqlmodel import SQLModel

import app.main  # noqa: F401  importing an entity registers its table
from app.migrations import owner_url
from app.settings import Settings

LOCK = 4_821_937  # any number: one migration at a time, whoever starts it
COMPARED = ("alembic.autogenerate.*", "alembic.ext.checkconstraint_byname")  # the second: checks, by name

attributes = context.config.attributes
attributes["settings"] = settings = attributes.get("settings") or Settings.load()
engine = create_engine(owner_url(settings), poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        compare_server_default=True,
        autogenerate_plugins=COMPARED,
    )
    with context.begin_transaction():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        context.run_migrations()
