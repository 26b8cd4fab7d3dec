"""Changes outside of `every_row`, which reach no row of a table that is protected."""

import pytest

from tests.devtools.lint.support import Told, assert_found_as_commented, assert_told

# A comment names what is found in the line below it. Nothing else is found.
MIGRATIONS = {
    "before_it_is_protected": """
    op.create_table("cup", sa.Column("user_id", sa.Text(), nullable=False))
    op.execute("UPDATE cup SET user_id = 'alice'")
    protect("cup")
    # below: hidden-rows
    op.execute("UPDATE cup SET user_id = 'alice'")
    """,
    "within": """
    with every_row():
        op.execute("UPDATE cup SET user_id = 'alice'")
    # below: hidden-rows
    op.execute("DELETE FROM cup")
    """,
    "backfill": 'backfill("cup", "user_id = \'alice\'", where="user_id = \'bob\'")',
    "by_hand": """
    op.execute("SET LOCAL app.every_row TO 'on'; UPDATE cup SET user_id = 'alice'")
    with op.get_context().autocommit_block():
        # below: hidden-rows
        op.execute("UPDATE cup SET user_id = 'alice'")
    """,
    "of_sqlalchemy": """
    # below: hidden-rows
    op.execute(sa.table("cup", sa.column("user_id", sa.Text())).update().values(user_id="alice"))
    """,
    "merge": """
    # below: hidden-rows
    op.execute("MERGE INTO public.cup USING shelf ON shelf.id = cup.user_id WHEN MATCHED THEN DELETE")
    """,
    "reads": """
    # below: hidden-rows
    op.execute("insert into shelf (name) select user_id from only \\"cup\\"")
    # below: hidden-rows
    op.execute("WITH found AS (SELECT * FROM cup) UPDATE shelf SET name = found.user_id FROM found")
    """,
    "block_of_sql": """
    # below: hidden-rows
    op.execute("DO $$ BEGIN PERFORM 1; UPDATE cup SET user_id = 'alice'; END $$")
    """,
    "other_tables": """
    op.execute("UPDATE shelf SET name = ''")
    op.execute("UPDATE shelf SET name = extract(year FROM now())::text")
    """,
    "no_change": """
    op.execute("SELECT * FROM cup FOR UPDATE")
    op.execute("COMMENT ON TABLE cup IS 'UPDATE cup'")
    op.execute("CREATE RULE r AS ON DELETE TO shelf DO ALSO DELETE FROM cup")
    op.execute("CREATE TRIGGER t AFTER UPDATE ON cup FOR EACH ROW EXECUTE FUNCTION f()")
    op.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE sql AS $$ SELECT 1; UPDATE cup SET user_id = '' $$")
    op.execute("GRANT UPDATE, DELETE ON cup TO tasks_api; -- DELETE FROM cup")
    """,
    "foreign_key": """
    op.create_table("plate", sa.Column("id", sa.BigInteger(), unique=True), sa.Column("cup", sa.BigInteger()))
    # below: hidden-rows
    op.create_foreign_key("plate_cup", "plate", "cup", ["cup"], ["id"])
    op.create_foreign_key("plate_cup_2", "plate", "cup", ["cup"], ["id"], postgresql_not_valid=True)
    op.create_foreign_key("plate_plate", "plate", "plate", ["cup"], ["id"], postgresql_not_valid=True)
    """,
    "validated": """
    op.execute("ALTER TABLE plate VALIDATE CONSTRAINT plate_plate")
    # below: hidden-rows
    op.execute("ALTER TABLE plate VALIDATE CONSTRAINT plate_cup_2")
    with every_row():
        op.execute("ALTER TABLE plate VALIDATE CONSTRAINT plate_cup_2")
    """,
    "insert": "op.execute(\"INSERT INTO cup (user_id) VALUES ('alice') ON CONFLICT DO NOTHING\")",
    "marker": """
    # squawk-ignore hidden-rows: no row, on purpose
    op.execute("DELETE FROM cup")
    """,
    "renamed": """
    op.rename_table("cup", "mug")  # squawk-ignore renaming-table: unused since 1.2
    op.execute("DELETE FROM cup")
    # below: hidden-rows
    op.execute("DELETE FROM mug")
    """,
    "dropped": """
    op.drop_table("mug")  # squawk-ignore ban-drop-table: unused since 1.2
    op.execute("DELETE FROM mug")
    """,
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_has_what_its_comments_say(findings: list[Told], name: str) -> None:
    """At the line of the statement that emitted it, and nothing else."""
    assert_found_as_commented(findings, name, MIGRATIONS[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "within",
            "This DELETE reaches no row of cup, since row-level security hides them all. Put it in `with ",
        ),
        ("of_sqlalchemy", "This UPDATE reaches no row of cup"),
        (
            "validated",
            "This foreign key is not checked, since row-level security hides all rows of cup.",
        ),
        ("block_of_sql", "or use backfill()."),
    ],
)
def test_a_finding_says_what_to_do(findings: list[Told], name: str, text: str) -> None:
    """In the words of this project."""
    assert_told(findings, name, text)
