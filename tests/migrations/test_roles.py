"""What a migration asks of the logins that migrate and serve: the two roles, created and granted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from app import migrations
from app.db.roles import ROLE, ROLES
from app.serving import NotServing, verify_database
from devtools.examples import migration
from devtools.examples.schema import change_schema
from tests.migrations.support import settings
from tests.postmaster import Postmaster
from tests.process import run_command, run_process
from tests.support import wait_until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'empty' AND wait_event_type = 'Lock'"


@pytest.fixture
def without_role(postmaster: Postmaster) -> Iterator[None]:
    """A cluster in which neither role was ever created."""
    for role in ROLES:
        postmaster.ask(f"ALTER ROLE {role} RENAME TO {role}_away")
    yield
    for role in ROLES:
        postmaster.ask(f"DROP ROLE IF EXISTS {role}")
        postmaster.ask(f"ALTER ROLE {role}_away RENAME TO {role}")


@pytest.mark.usefixtures("without_role")
def test_two_databases_may_be_migrated_at_once(postmaster: Postmaster, empty: str) -> None:
    """The roles belong to the whole cluster: whoever comes second waits for the first, and finds them there."""
    with closing(postmaster.connect("postgres", "tasks")) as first, ThreadPoolExecutor(1) as threads:
        create = (f"CREATE ROLE {r} NOLOGIN; GRANT {r} TO tasks WITH SET TRUE, INHERIT FALSE" for r in ROLES)
        first.cursor().execute(f"BEGIN; {'; '.join(create)}")
        second = threads.submit(migrations.migrate, settings(postmaster.url(empty)))
        wait_until(lambda: postmaster.ask(WAITING) == [(1,)])
        first.cursor().execute("COMMIT")
        second.result()
    verify_database(settings(postmaster.url(empty)))


@pytest.fixture
def humble(postmaster: Postmaster) -> Iterator[str]:
    """A login that owns a database, and may create no role."""
    postmaster.ask("CREATE ROLE humble LOGIN")
    postmaster.ask("CREATE DATABASE humble OWNER humble")
    yield "humble"
    postmaster.ask("DROP DATABASE humble WITH (FORCE)")
    postmaster.ask("DROP ROLE humble")


def administer(postmaster: Postmaster, line: str) -> None:
    """Run what the message says after its colon, as one batch: the whole of it has to work."""
    postmaster.ask(line.partition("must run: ")[2])


def assert_migrates_after_one_line(postmaster: Postmaster, login: str) -> None:
    refused = run_command(["migrate"], postmaster.url(login, login))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "Traceback" not in refused.stderr
    administer(postmaster, refused.stderr)
    migrated = run_command(["migrate"], postmaster.url(login, login))
    assert (migrated.returncode, migrated.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.usefixtures("without_role")
def test_a_login_that_may_not_create_the_role_says_what_must_be_run(postmaster: Postmaster, humble: str) -> None:
    """`migrate` ends with one line and exit code 1; once an administrator has run that line, all goes well."""
    assert_migrates_after_one_line(postmaster, humble)


def test_a_login_that_was_not_granted_the_role_says_what_must_be_run(postmaster: Postmaster, humble: str) -> None:
    """Where the role is there already, the line grants it alone: creating it again would fail."""
    assert_migrates_after_one_line(postmaster, humble)


def test_a_login_that_lacks_one_role_is_told_of_that_one(postmaster: Postmaster, humble: str) -> None:
    """A database that was migrated before there were administrators: the line adds what is missing, and no more."""
    postmaster.ask(f"GRANT {ROLE} TO humble WITH SET TRUE, INHERIT FALSE")
    refused = run_command(["migrate"], postmaster.url(humble, humble))
    assert refused.stderr.endswith('run: GRANT tasks_admin TO "humble" WITH SET TRUE, INHERIT FALSE;\n')


@pytest.mark.parametrize("role", ROLES)
def test_serving_needs_both_roles(postmaster: Postmaster, role: str) -> None:
    """A login from which one was taken away is told at the start, by the line that gives it back."""
    url = postmaster.url(postmaster.new_database())
    ((by,),) = postmaster.ask(
        f"SELECT grantor::regrole::text FROM pg_auth_members WHERE roleid = '{role}'::regrole"
        " AND member = 'tasks'::regrole AND set_option"
    )
    postmaster.ask(f"REVOKE {role} FROM tasks GRANTED BY {by}")
    with pytest.raises(NotServing, match=f'^An administrator must run: GRANT {role} TO "tasks" WITH SET') as told:
        verify_database(settings(url))
    administer(postmaster, str(told.value))
    verify_database(settings(url))


def test_who_migrates_need_not_be_who_serves(postmaster: Postmaster, humble: str) -> None:
    """With DATABASE_MIGRATION_URL the owner migrates, and grants the login of DATABASE_URL what it needs to serve."""
    owner, login = postmaster.url("empty_of_owner"), postmaster.url("empty_of_owner", humble)
    postmaster.ask("CREATE DATABASE empty_of_owner OWNER tasks")
    migrated = run_command(["migrate"], login, database_migration_url=owner)
    assert (migrated.returncode, migrated.stderr) == (0, "")
    with change_schema(owner):
        migration.upgrade()
    with run_process(login) as process, process.client() as client:
        assert client.post("/api/examples", json={"title": "an example"}).status_code == 201
        assert len(client.get("/api/examples").json()) == 1
    postmaster.ask("DROP DATABASE empty_of_owner WITH (FORCE)")
