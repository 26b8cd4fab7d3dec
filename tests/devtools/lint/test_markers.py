"""What excuses a finding, and what is wrong with an excuse."""

import pytest

from tests.devtools.lint.support import Told, assert_found_as_commented, assert_told
from tests.docs.pages import blocks

# A comment names what is found in the line below it. Nothing else is found.
MIGRATIONS = {
    "marker_of_the_page": blocks("docs/operate.md", __file__)[0],
    "marker": 'op.drop_column("board", "color")  # squawk-ignore ban-drop-column: unused since 1.4.0, and empty',
    "marker_above": """
    # squawk-ignore ban-drop-column: unused since 1.4.0
    # It was empty.
    op.drop_column("board", "color")
    """,
    "marker_above_another": """
    # below: squawk-ignore
    # squawk-ignore ban-drop-column: unused since 1.4.0

    # below: ban-drop-column
    op.drop_column("board", "color")
    """,
    "marker_above_a_line_of_a_block": """
    # below: ban-drop-column
    with op.batch_alter_table("board") as board:
        # below: squawk-ignore
        # squawk-ignore ban-drop-column: unused since 1.2
        board.drop_column("color")
    """,
    "marker_with_another_reason": """
    # below: squawk-ignore
    op.drop_column("board", "color")  # squawk-ignore ban-drop-column: nobody likes it
    """,
    "marker_without_a_reason": """
    # below: squawk-ignore
    op.drop_constraint("board_color", "board")  # squawk-ignore ban-drop-constraint:
    """,
    "marker_without_a_colon": """
    # below: squawk-ignore
    op.drop_constraint("board_color", "board")  # squawk-ignore ban-drop-constraint NOT NULL says the same
    """,
    "marker_without_a_rule": """
    # below: squawk-ignore
    op.execute("SELECT 1")  # squawk-ignore
    """,
    "marker_of_nothing": """
    # below: squawk-ignore
    op.execute("SELECT 1")  # squawk-ignore ban-drop-table: unused since 1.2
    """,
    "marker_of_another_rule": """
    # below: ban-drop-column squawk-ignore
    op.drop_column("board", "color")  # squawk-ignore ban-drop-table: unused since 1.2
    """,
    "marker_of_another_line": """
    # below: ban-drop-column
    op.drop_column("board", "color")
    # below: squawk-ignore
    op.execute("SELECT 1")  # squawk-ignore ban-drop-column: unused since 1.2
    """,
    "marker_in_a_text": """op.execute("SELECT '# squawk-ignore ban-drop-table: a text'")""",
    "marker_in_sql": """
    # below: ban-drop-table
    op.execute("-- squawk-ignore ban-drop-table\\nDROP TABLE board")
    """,
    "marker_of_two_rules": """
    op.create_unique_constraint(
        "board_color",
        "board",  # squawk-ignore constraint-missing-not-valid, disallowed-unique-constraint: it has 3 rows
        ["color"],
    )
    """,
    "marker_in_a_block": """
    # below: ban-drop-column
    with op.batch_alter_table("board") as board:
        board.drop_column("color")
        # below: squawk-ignore
        op.execute("SELECT 1")  # squawk-ignore ban-drop-column: unused since 1.2
    """,
    "marker_of_a_block": """
    with op.batch_alter_table("board") as board:  # squawk-ignore ban-drop-column: unused since 1.2
        board.drop_column("color")
    """,
}


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_has_what_its_comments_say(findings: list[Told], name: str) -> None:
    """At the line of the statement that emitted it, and nothing else."""
    assert_found_as_commented(findings, name, MIGRATIONS[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("marker_with_another_reason", "ban-drop-column has one good reason, such as `unused since 1.4.0`"),
        ("marker_without_a_reason", "ban-drop-constraint has no reason: `# squawk-ignore ban-drop-constraint: "),
        (
            "marker_of_nothing",
            "ban-drop-table is not found here: take the marker away, or put it on the statement's own line.",
        ),
    ],
)
def test_a_finding_says_what_to_do(findings: list[Told], name: str, text: str) -> None:
    """In the words of this project."""
    assert_told(findings, name, text)
