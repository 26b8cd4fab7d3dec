"""An embedded PostgreSQL for development and tests."""

from devtools.postgres.server import PostgresFailed, Server, postgres

__all__ = ["PostgresFailed", "Server", "postgres"]
