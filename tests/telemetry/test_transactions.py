"""What `transaction()` does is observed statement by statement; its preamble is no statement of anybody's."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from sqlmodel import col, insert, select

from app.auth import CurrentUser
from app.db import CurrentDatabase
from app.web.route import ApiRoute
from devtools.examples.models import Example
from devtools.postgres import Server
from tests.otlp_receiver import Receiver
from tests.proxy import run_proxy
from tests.support import Api
from tests.telemetry.conftest import database_of
from tests.telemetry.scrapes import scrape
from tests.telemetry.support import server_span, statements

Serve = Callable[..., AbstractContextManager[Api]]

router = APIRouter(prefix="/api", route_class=ApiRoute)


@router.get("/copy")
def copy(database: CurrentDatabase, user: CurrentUser) -> int:
    """Insert an example and read what there is, in one transaction."""
    with database.transaction(user) as session:
        session.connection().execute(
            insert(Example).values(user_id=user.user_id, title="in a transaction", completed=False)
        )
        return len(session.exec(select(col(Example.id))).all())


@pytest.fixture
def alice(traced: Serve) -> Iterator[httpx.Client]:
    with traced([router]) as api, api.client() as client:
        yield client


def test_each_statement_of_a_transaction_is_a_span_below_its_request(alice: httpx.Client, receiver: Receiver) -> None:
    """Both statements, in their order, named by command and table, and nothing else; the totals are theirs."""
    answer = alice.get("/api/copy")
    server, asked = server_span(receiver, answer), statements(receiver, answer)
    assert (answer.status_code, answer.json()) == (200, 1)
    assert [span["name"] for span in asked] == ["INSERT example", "SELECT example"]
    assert {span["parentSpanId"] for span in asked} == {server["spanId"]}
    assert [span["attributes"]["db.response.returned_rows"] for span in asked] == [1, 1]
    assert server["attributes"]["app.db.query_count"] == 2


def test_each_statement_of_a_transaction_is_measured(alice: httpx.Client) -> None:
    """Under its command and table; the preamble is measured nowhere."""
    alice.get("/api/copy")
    counted = {
        tuple(sample.labels.values()): sample.value
        for sample in scrape(alice).samples
        if sample.name == "db_client_operation_duration_seconds_count" and sample.value
    }
    assert counted == {("INSERT", "example"): 1, ("SELECT", "example"): 1}


def test_a_message_of_a_transaction_leads_back_to_the_trace(
    alice: httpx.Client, receiver: Receiver, holding: Callable[[str], Any]
) -> None:
    """While a statement waits, pg_stat_activity shows the traceparent of its span at the head of the message."""
    with ThreadPoolExecutor(1) as pool, holding("LOCK TABLE example") as held:
        answer = pool.submit(alice.get, "/api/copy")
        message = held.waiting()
        held.release()
        first = statements(receiver, answer.result())[0]
    assert message.startswith(f"/*traceparent='00-{first['traceId']}-{first['spanId']}-")
    assert "*/ INSERT INTO example" in message


def test_a_preamble_that_fails_is_an_error_like_any_other(
    traced: Serve, receiver: Receiver, cluster: Server, database_url: str
) -> None:
    """Its answer is lost: 503, an error in the metrics, and no span of a statement that never was."""
    with run_proxy(cluster.socket) as tapped:
        url = tapped.url(database_of(database_url))
        with traced([router], database_url=url) as api, api.client() as alice:
            tapped.cut_after("set_config")
            answer = alice.get("/api/copy")
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert statements(receiver, answer) == []
            errors = [sample.value for sample in scrape(alice).samples if sample.name == "db_errors_total"]
            assert sum(errors) == 1
            assert alice.get("/api/copy").json() == 1


def test_a_preamble_whose_plan_the_server_tells_is_in_no_log(
    traced: Serve, login: Callable[[str, str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The server explains every statement: what it says of the preamble, the user in it, is dropped unread."""
    login("auto_explain.log_min_duration", "0")
    caplog.set_level(logging.INFO, "sqlalchemy.dialects.postgresql")
    with traced([router]) as api, api.client() as alice:
        assert alice.get("/api/copy").status_code == 200
    assert "set_config" not in caplog.text
