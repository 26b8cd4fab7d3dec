"""What a statement does to tables, as far as it matters to users' rows."""

import re
from collections.abc import Iterator

NAME = r'(?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?'
OWNER = r'"?(?:user_id|org_id)"?'
CHANGE = re.compile(
    rf"""
      CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(?P<created>{NAME})\s*\((?:[^;]*?,)?\s*{OWNER}\s+\w
    | ALTER\s+TABLE\s+(?P<altered>{NAME})\s+ADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?{OWNER}\s
    | ALTER\s+TABLE\s+(?P<renamed>{NAME})\s+RENAME\s+TO\s+(?P<new>{NAME})
    | CREATE\s+POLICY\s+own\s+ON\s+(?P<protected>{NAME})
    | DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?P<dropped>{NAME})
    """,
    re.IGNORECASE | re.VERBOSE,
)


def changes_of(sql: str) -> Iterator[dict[str, str]]:
    """Yield the names of tables in each change, by what happens to them: `created` and `altered` with an owner."""
    for found in CHANGE.finditer(sql):
        yield {kind: plain(name) for kind, name in found.groupdict().items() if name}


def plain(name: str) -> str:
    """Return a name without its quotes, and without the schema that is the usual one."""
    return name.replace('"', "").removeprefix("public.")
