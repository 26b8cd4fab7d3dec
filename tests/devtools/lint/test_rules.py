"""Rules of our own: users' rows are protected, and what commits comes first."""

import pytest

from tests.devtools.lint.support import Told, assert_found_as_commented, assert_told

# A comment names what is found in the line below it. Nothing else is found.
MIGRATIONS = {
    "table_that_is_protected": """
    op.create_table("order", sa.Column("user_id", sa.Text(), nullable=False))
    protect("order")
    """,
    "table_of_a_user": """
    # below: unprotected-table
    op.create_table("pen", sa.Column("user_id", sa.Text(), nullable=False))
    """,
    "table_of_an_organization": """
    # below: unprotected-table
    op.create_table(
        "desk",
        sa.Column("id", sa.BigInteger()),
        sa.Column("org_id", sa.Text(), nullable=False),
    )
    """,
    "table_written_by_hand": """
    # below: unprotected-table
    op.execute("create table if not exists lamp (id bigint, user_id text not null)")
    """,
    "table_with_other_quotes": """
    op.execute('CREATE TABLE "mug" (user_id text)')
    protect("mug")
    """,
    "table_that_refers_to_a_user": """
    key = sa.ForeignKeyConstraint(["id", "of"], ["pot.id", "pot.user_id"])
    op.create_table("tag", sa.Column("id", sa.Text()), sa.Column("of", sa.Text()), key)
    """,
    "table_that_gets_a_user": """
    # below: unprotected-table
    op.add_column("shelf", sa.Column("user_id", sa.Text()))
    """,
    "table_that_was_protected": 'op.add_column("order", sa.Column("org_id", sa.Text()))',
    "table_to_protect": 'op.create_table("chair", sa.Column("user_id", sa.Text(), nullable=False))',
    "table_to_protect_is_renamed": """
    op.rename_table("chair", "seat")  # squawk-ignore renaming-table: unused since 1.2
    """,
    "table_to_protect_is_protected": 'protect("seat")',
    "table_to_drop": 'op.create_table("cup", sa.Column("user_id", sa.Text(), nullable=False))',
    "table_to_drop_is_dropped": 'op.drop_table("cup")  # squawk-ignore ban-drop-table: unused since v1.2',
    "steps_that_are_first": """
    op.execute("SET LOCAL statement_timeout = '1min'")
    backfill("board", "color = 'red'", where="color IS NULL")
    create_index("board_color", "board", ["color"], concurrently=True)
    op.add_column("board", sa.Column("size", sa.Text()))
    """,
    "backfill_that_is_second": """
    op.add_column("board", sa.Column("size", sa.Text()))
    # below: not-first
    backfill("board", "color = 'red'", where="color IS NULL")
    """,
    "index_that_is_second": """
    # below: prefer-robust-stmts
    op.add_column("board", sa.Column("size", sa.Text()))
    # below: not-first
    create_index("board_color", "board", ["color"], concurrently=True)
    """,
    "block_that_is_second": """
    # below: prefer-robust-stmts
    op.add_column("board", sa.Column("size", sa.Text()))
    # below: not-first
    with op.get_context().autocommit_block():
        op.execute("VACUUM board")
    """,
    "needs_a_database": """
    # below: needs-database
    op.get_bind().execute(sa.text("SELECT 1")).scalar()
    """,
    "does_without_a_database": """
    if not op.get_context().as_sql:
        op.get_bind().execute(sa.text("SELECT 1")).scalar()
    """,
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_has_what_its_comments_say(findings: list[Told], name: str) -> None:
    """At the line of the statement that emitted it, and nothing else."""
    assert_found_as_commented(findings, name, MIGRATIONS[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("table_of_a_user", 'pen has a user_id or an org_id, and no migration says protect("pen").'),
        (
            "backfill_that_is_second",
            "create_index(…, concurrently=True) and drop_index(…, concurrently=True) commit, so they",
        ),
        ("table_written_by_hand", 'no migration says protect("lamp").'),
        ("needs_a_database", "comes after `if not op.get_context().as_sql:`."),
    ],
)
def test_a_finding_says_what_to_do(findings: list[Told], name: str, text: str) -> None:
    """In the words of this project."""
    assert_told(findings, name, text)
