"""A rule of our own: what changes or checks users' rows outside of `every_row` sees none, and nobody would say so."""

import re
from collections.abc import Iterator, Sequence

from devtools.lint.emission import Finding, Migration
from devtools.lint.tables import NAME, changes_of, plain

RULE = "hidden-rows"
SWITCH = re.compile(r"\bSET\s+(?:LOCAL\s+|SESSION\s+)?app\.every_row\s*(?:=|\sTO\s)\s*'?(\w+)'?", re.IGNORECASE)
BODY = re.compile(r"\bDO\s+(\$\w*\$)(.*?)\1", re.IGNORECASE | re.DOTALL)  # it runs at once, unlike a function's
TEXT = re.compile(r"'(?:[^']|'')*'|(\$\w*\$).*?\1|--[^\n]*|/\*.*?\*/", re.DOTALL)
DEFINES = re.compile(r"\s*CREATE\b", re.IGNORECASE)  # it runs later
CHANGES = re.compile(r"(?<!FOR )(?<!KEY )\b(UPDATE|DELETE|MERGE|INSERT)\s", re.IGNORECASE)
READS = re.compile(
    rf"\b(?:UPDATE|(?<!INSERT )INTO|FROM|USING|JOIN)\s+(?:ONLY\s+)?(?P<table>{NAME})(?!\s*\()", re.IGNORECASE
)
FOREIGN_KEY = re.compile(
    rf"""
      \bALTER\s+TABLE\s+(?:ONLY\s+)?(?P<table>{NAME})\s+ADD\s+CONSTRAINT\s+(?P<added>{NAME})\s+FOREIGN\s+KEY\b
        .*?\bREFERENCES\s+(?P<other>{NAME})(?P<unchecked>.*\bNOT\s+VALID\b)?
    | \bVALIDATE\s+CONSTRAINT\s+(?P<validated>{NAME})
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
REMEDY = "Put it in `with every_row():` of app.migrations.row_security"


def find(migrations: Sequence[Migration]) -> Iterator[Finding]:
    """Yield the statements of the migrations, which are in order, that need rows which row-level security hides."""
    protected: set[str] = set()
    keys: dict[str, str] = {}
    for migration in migrations:
        is_reached = False
        for statement in migration.statements:
            for part in TEXT.sub("''", BODY.sub(r"\2", SWITCH.sub(r"SWITCH \1", statement.sql))).split(";"):
                if switch := re.match(r"\s*SWITCH (\w+)", part):
                    is_reached = switch[1].lower() in {"on", "true"}
                elif re.match(r"\s*COMMIT\b", part):
                    is_reached = False
                fault = _key_fault(part, protected, keys) or _fault(part, protected)
                if fault and not is_reached:
                    yield Finding(migration.file, statement.line, RULE, fault)
            _follow(protected, statement.sql)


def _fault(sql: str, protected: set[str]) -> str | None:
    """Return what is wrong with a statement that is not in `every_row`, or None."""
    change = None if DEFINES.match(sql) else CHANGES.search(sql)
    tables = [plain(found["table"]) for found in READS.finditer(sql)] if change else []
    hidden = next((table for table in tables if table in protected), None)
    if not change or not hidden:
        return None
    return (
        f"This {change[1].upper()} reaches no row of {hidden}, since row-level security hides them all."
        f" {REMEDY}, or use backfill()."
    )


def _key_fault(sql: str, protected: set[str], keys: dict[str, str]) -> str | None:
    """Return what is wrong with a foreign key of hidden rows that is checked, or None. `keys` has the table of each."""
    found = FOREIGN_KEY.search(sql)
    if found and found["added"]:
        tables = [plain(found["table"]), plain(found["other"])]
        keys |= {plain(found["added"]): table for table in tables if table in protected}
    hidden = keys.get(plain(found["added"] or found["validated"])) if found else None
    if not found or not hidden or found["unchecked"]:
        return None
    return f"This foreign key is not checked, since row-level security hides all rows of {hidden}. {REMEDY}."


def _follow(protected: set[str], sql: str) -> None:
    """Note which tables hide their rows after a statement."""
    for names in changes_of(sql):
        match names:
            case {"protected": name}:
                protected.add(name)
            case {"dropped": name}:
                protected.discard(name)
            case {"renamed": name, "new": new} if name in protected:
                protected.remove(name)
                protected.add(new)
