"""What the tests of migrations share."""

from typing import Any

from app.settings import Settings
from tests.support import SECRET

WAITS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'migrate' AND wait_event_type = 'Lock'"
SCHEMA = """
    SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
        SELECT format('%s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull) AS line
        FROM pg_attribute WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
          AND attnum > 0 AND NOT attisdropped AND attrelid::regclass::text NOT LIKE 'alembic_version%'
        UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index
        WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
          AND indrelid <> to_regclass('alembic_version')
        UNION ALL SELECT format('%s %s %s', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) FROM pg_policy
        UNION ALL SELECT format('%s %s %s', relname, relforcerowsecurity, relacl) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
    ) AS schema
"""


def settings(url: str, **others: Any) -> Settings:
    return Settings(database_url=url, better_auth_secret=SECRET, **others)
