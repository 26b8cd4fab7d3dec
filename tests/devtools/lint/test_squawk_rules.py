"""What squawk finds, and what this project says to it."""

import pytest

from tests.devtools.lint.support import Told, assert_found_as_commented, assert_told

# A comment names what is found in the line below it. Nothing else is found.
MIGRATIONS = {
    "index": """
    # below: require-concurrent-index-creation
    op.create_index("board_color", "board", ["color"])
    """,
    "index_of_a_new_table": """
    op.create_table("shelf", sa.Column("code", sa.String(10), primary_key=True))
    op.create_index("shelf_code", "shelf", ["code"])
    """,
    "index_that_is_dropped": """
    # below: require-concurrent-index-deletion
    op.drop_index("board_color", "board")
    """,
    "index_that_is_concurrent": """
    drop_index("board_size", "board", concurrently=True)
    create_index("board_color", "board", ["color"], concurrently=True)
    """,
    "dropped_column": """
    # below: ban-drop-column
    op.drop_column("board", "color")
    """,
    "dropped_table": """
    # below: ban-drop-table
    op.drop_table("board")
    """,
    "default_that_is_dropped": """
    # below: ban-drop-default
    op.alter_column("board", "color", server_default=None)
    """,
    "not_null_that_is_dropped": """
    # below: ban-drop-not-null
    op.alter_column("board", "color", nullable=True)
    """,
    "default": 'op.alter_column("board", "color", server_default="red")',
    "renamed_column": """
    # below: renaming-column
    op.alter_column("board", "color", new_column_name="tint")
    """,
    "renamed_table": """
    # below: renaming-table
    op.rename_table("board", "plank")
    """,
    "key_that_runs_out": """
    # below: prefer-bigint-over-int
    op.create_table("stool", sa.Column("id", sa.Integer(), sa.Identity()), sa.Column("desk_id", sa.Integer()))
    """,
    "count": 'op.add_column("board", sa.Column("paid", sa.Integer()))',
    "required_column": """
    # below: adding-required-field
    op.add_column("board", sa.Column("size", sa.Text(), nullable=False))
    """,
    "not_null": """
    # below: adding-not-nullable-field
    op.alter_column("board", "size", nullable=False)
    """,
    "nonsense": """
    # below: syntax-error
    op.execute("SELEC")
    """,
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_has_what_its_comments_say(findings: list[Told], name: str) -> None:
    """At the line of the statement that emitted it, and nothing else."""
    assert_found_as_commented(findings, name, MIGRATIONS[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index", "Let create_index(…, concurrently=True) of app.migrations.online come first."),
        ("index_that_is_dropped", "Let drop_index(…, concurrently=True) of app.migrations.online come first."),
        ("dropped_column", "say so: `# squawk-ignore ban-drop-column: unused since <release>`. docs/operate.md"),
        ("dropped_table", "say so: `# squawk-ignore ban-drop-table: unused since <release>`."),
        (
            "default_that_is_dropped",
            "say so: `# squawk-ignore ban-drop-default: each row gets its value since <release>`.",
        ),
        ("not_null_that_is_dropped", "Give it a server_default in its place"),
        ("renamed_column", "docs/operate.md has the steps: “Rename or drop a column”."),
        ("renamed_table", "Keep its name, by `__tablename__` in the renamed class."),
        ("required_column", "docs/operate.md has the steps: “A column that every row must have”."),
        ("nonsense", "expected command, found IDENT"),
    ],
)
def test_a_finding_says_what_to_do(findings: list[Told], name: str, text: str) -> None:
    """In the words of this project."""
    assert_told(findings, name, text)
