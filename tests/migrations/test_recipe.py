"""The recipe of docs/operate.md: a column that every row must have."""

from pathlib import Path
from textwrap import indent

import pytest

from tests.docs.pages import apply
from tests.migrations.recipe import (
    DIFFS,
    DROP_DEFAULT,
    FIRST,
    MODELS,
    STEPS,
    copy_with_examples,
    copy_with_recipe,
    insert,
    put,
    verify_models,
)
from tests.migrations.support import SCHEMA
from tests.postmaster import Postmaster
from tests.process import run_command

MARKS = """
    SELECT (SELECT count(*) FROM pg_constraint WHERE conrelid = 'example'::regclass AND contype = 'c'),
           (SELECT indisvalid FROM pg_index WHERE indexrelid = 'example_user_id_due_at'::regclass)
"""
MISSED = "SELECT count(*) FROM example WHERE due_at IS DISTINCT FROM created_at + interval '14 days'"
ROWS, USERS = 1_200, 3
LOST = "example.due_at loses its default, since its model has none, and old code may insert rows without a value."


@pytest.mark.slow
def test_every_row_gets_the_column(postmaster: Postmaster, empty: str, tmp_path: Path) -> None:
    """The rows of all users have their value, NOT NULL by no CHECK that is left, and a valid index; there and back."""
    copy, url = copy_with_recipe(tmp_path), postmaster.url(empty)

    def migrate(*arguments: str) -> None:
        ended = run_command(["migrate", *arguments], url, copy)
        assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr

    migrate(FIRST)
    before = postmaster.ask(SCHEMA, empty)
    insert(postmaster, empty, ROWS, USERS)
    migrate()
    schema = postmaster.ask(SCHEMA, empty)
    assert "example due_at timestamp with time zone t" in schema[0][0]
    assert postmaster.ask(MARKS, empty) == [(0, True)]
    assert postmaster.ask(MISSED, empty) == [(0,)]
    postmaster.ask("INSERT INTO example (user_id, title, completed) VALUES ('old code', '', true)", empty)
    migrate(FIRST, "--down")
    assert postmaster.ask(SCHEMA, empty) == before
    migrate()
    assert postmaster.ask(SCHEMA, empty) == schema
    assert postmaster.ask(MISSED, empty) == [(0,)]
    assert postmaster.ask("SELECT count(DISTINCT user_id), count(*) FROM example", empty) == [(USERS + 1, ROWS + 1)]


@pytest.mark.slow
def test_the_models_agree_after_each_step(postmaster: Postmaster, empty: str, tmp_path: Path) -> None:
    """So do they when the default has gone, of which `make migration` and `make check` warn."""
    project = copy_with_examples(tmp_path, postmaster.url(empty))
    for diff, (name, text) in zip(DIFFS, STEPS.items(), strict=True):
        apply(project.folder, diff)
        put(project.folder, name, text)
        verify_models(project)
    project.replace(MODELS, ", sa_column_kwargs=IN_14_DAYS", "")
    first, written, _ = project.run("migration", "drop the default").stdout.splitlines()
    assert first.startswith(LOST)
    file = written.removesuffix(" is written.")
    assert "ban-drop-default: " in project.run("lint").stdout
    text = (project.folder / file).read_text()
    call = text[text.index("    op.alter_column") : text.index("\n\n\ndef downgrade")]
    project.replace(file, call, indent(DROP_DEFAULT.strip(), "    "))
    verify_models(project)
    assert project.run("lint").stdout == ""
