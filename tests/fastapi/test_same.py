"""What FastAPI's documentation shows works here as it does there: the same routers, answer by answer."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.fastapi.apps import RunningApp
from tests.fastapi.case import Case
from tests.fastapi.compare import Answer, differences, headers_to_compare
from tests.fastapi.table import CASES

GetApp = Callable[[str, str], RunningApp]

all_cases = pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])


@pytest.fixture(scope="session")
def plain(served: GetApp) -> Callable[[int], Answer]:
    """A function of a case's number. It returns the answer of plain FastAPI, to which each case is sent once."""
    return cache(lambda number: served("plain", CASES[number].app).send(CASES[number]))


@all_cases
def test_the_template_answers_as_plain_fastapi(number: int, plain: Callable[[int], Answer], served: GetApp) -> None:
    """Status, headers, body and side effects are the same; errors say the same as a problem document."""
    case = CASES[number]
    ours = served("template", case.app).send(case)
    assert differences(plain(number), ours, case.compares) == []


@all_cases
def test_each_case_can_fail(number: int, plain: Callable[[int], Answer], served: GetApp) -> None:
    """A twin with the contract's errors is the same. If its answer is altered, every aspect differs."""
    case, answer, twin = CASES[number], plain(number), served("twin", CASES[number].app)
    assert differences(answer, twin.send(case), case.compares) == []
    found = differences(answer, twin.send(case, altered=True), case.compares)
    assert {text.partition(":")[0] for text in found} == altered_aspects(case, answer)


def altered_aspects(case: Case, answer: Answer) -> set[str]:
    """Return the aspects in which an altered answer must differ."""
    aspects = set(case.compares)
    if case.method == "HEAD":
        aspects.discard("body")
    if not headers_to_compare(answer) - {"transfer-encoding"}:
        aspects.discard("headers")
    return aspects


def test_there_are_enough_cases_and_no_two_of_one_name() -> None:
    """A failing test is found by its name."""
    assert len({case.name for case in CASES}) == len(CASES) >= 300
