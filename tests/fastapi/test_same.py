"""What FastAPI's documentation shows works here as it does there: the same routers, answer by answer."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.fastapi.apps import Served
from tests.fastapi.case import Case
from tests.fastapi.compare import Answer, compared, differences
from tests.fastapi.table import CASES

Ask = Callable[[str, str], Served]

all_cases = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])


@pytest.fixture(scope="session")
def plain(served: Ask) -> Callable[[int], Answer]:
    """Give what plain FastAPI answers to a case: it is asked once."""
    return cache(lambda number: served("plain", CASES[number].app).ask(CASES[number]))


@all_cases
def test_the_template_answers_as_plain_fastapi(number: int, plain: Callable[[int], Answer], served: Ask) -> None:
    """Status, headers, body and side effects are the same; errors say the same as a problem document."""
    case = CASES[number]
    ours = served("template", case.app).ask(case)
    assert differences(plain(number), ours, case.compares) == []


@all_cases
def test_each_case_can_fail(number: int, plain: Callable[[int], Answer], served: Ask) -> None:
    """FastAPI with nothing but the contract's errors is the same; altered, it is told apart in all that is compared."""
    case, answer, twin = CASES[number], plain(number), served("twin", CASES[number].app)
    assert differences(answer, twin.ask(case), case.compares) == []
    found = differences(answer, twin.ask(case, altered=True), case.compares)
    assert {text.partition(":")[0] for text in found} == comparable(case, answer)


def comparable(case: Case, answer: Answer) -> set[str]:
    """Return what of `answer` an altered one cannot have in common."""
    found = set(case.compares)
    if case.method == "HEAD":
        found.discard("body")
    if not compared(answer) - {"transfer-encoding"}:
        found.discard("headers")
    return found


def test_there_are_enough_cases_and_none_is_there_twice() -> None:
    """The names are what a failing test is found by."""
    assert len({case.name for case in CASES}) == len(CASES) >= 300
