"""The database: statements and sessions that run as one user."""

from app.db.database import CurrentDatabase, CurrentSession, Database

__all__ = ["CurrentDatabase", "CurrentSession", "Database"]
