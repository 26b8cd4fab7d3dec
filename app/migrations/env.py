"""Alembic's entry: which models there are, and which database."""

from alembic import context
from sqlalchemy import create_engine, pool
from sqlmodel import SQLModel

from app import main  # noqa: F401  whatever it serves, this knows: importing an entity registers its table
from app.settings import Settings, SettingsError

LOCK = 4_821_937  # any number: one migration at a time, whoever starts it
URL = context.config.attributes.get("url")

if URL is None:
    settings = Settings.load()
    found = settings.database_migration_url or settings.database_url
    if found is None:
        raise SettingsError("DATABASE_URL is required")
    URL = found.get_secret_value()

engine = create_engine(URL, poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, compare_server_default=True)
    with context.begin_transaction():
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        context.run_migrations()
