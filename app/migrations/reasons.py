"""Why a migration failed, in one line that says what to do next."""

from app.migrations import place
from app.migrations.locks import sqlstate_of

TIMEOUT, CANCELLED = "due to statement timeout", "due to user request"  # a server that speaks English
MORE_TIME = "let backfill() change rows, or give the statement more time: `SET LOCAL statement_timeout = '10min'`"
IS_THERE = (
    "another migration or somebody by hand has made it already: take this step out of the migration, or drop what is"
    " there if nobody needs it"
)
IS_MISSING = "look at the spelling. If a migration makes it, that one must come before this one"
HINTS = {
    "23502": 'fill the rows first, as docs/operate.md shows in "A column that every row must have"',
    "23503": "rows name a row that is not there: change or delete those rows in a migration before this one",
    "23505": "several rows have the same values: change or delete those rows first, then run `migrate` again",
    "23514": "rows break the rule: change those rows by backfill() in a migration before this one",
    "25001": "use create_index() or drop_index() of app.migrations.online, with concurrently=True",
    "2BP01": "something else needs it: drop that first",
    "42501": "the login needs CREATE on the schema and must own the tables",
    "42701": IS_THERE,  # a column
    "42703": IS_MISSING,
    "42704": IS_MISSING,  # such as a constraint, an index or a type
    "42710": IS_THERE,  # such as a constraint or a policy
    "42P01": IS_MISSING,
    "42P07": IS_THERE,  # a table or an index
    "42883": IS_MISSING,  # a function
}


def explain(error: BaseException) -> str:
    """Return what the database or Alembic says, the place in a migration, and what to do next."""
    reason = f"{first_line(error)}{place.of_error(error)}"
    hint = _hint(error)
    return f"{reason}; {hint}" if hint else reason


def name(error: BaseException) -> str:
    """Return what any other exception says, with its type and its place in a migration."""
    said = f": {line}" if (line := first_line(error)) else ""
    return f"{type(error).__name__}{said}{place.of_error(error)}"


def first_line(error: BaseException) -> str:
    """Return the first line of what the driver or Alembic says; it names no password."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]


def _hint(error: BaseException) -> str | None:
    sqlstate = sqlstate_of(error)
    if sqlstate != "57014":
        return HINTS.get(sqlstate or "")
    said = first_line(error)
    if CANCELLED in said:
        return "somebody cancelled the statement, or an administrator's tool did: run `migrate` again"
    return MORE_TIME if TIMEOUT in said else f"somebody cancelled it, or it took too long: then {MORE_TIME}"
