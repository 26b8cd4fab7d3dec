"""What is wrong with a migration before a database sees it: by the SQL that it emits, a line a finding."""

from devtools.lint import rules, squawk
from devtools.lint.emission import emit_migrations
from devtools.lint.markers import settle


def find_faults() -> list[str]:
    """Return a line for each fault of a migration that no marker excuses.

    Raises:
        BrokenMigrations: see its class.
        SquawkFailed: squawk does not run, or does not say what it found.
    """
    migrations = emit_migrations()
    findings = [*squawk.find(migrations), *rules.find(migrations)]
    left = (
        finding
        for migration in migrations
        for finding in settle(migration.file, [found for found in findings if found.file == migration.file])
    )
    return list(dict.fromkeys(map(str, left)))
