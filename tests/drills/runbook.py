"""The queries of the runbook, each as whoever is on call would run it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import eq, gt

from tests.observability.promql import in_markdown
from tests.observability.sources import RUNBOOK

SECTION = r"^## {alert}$\n(.*?)(?=^## |\Z)"
FENCE = re.compile(r"^```(sql|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WORKED = "**It worked when**"
LINES_OF_API = re.compile(r"docker compose logs (?:--\S+ )*api(?= )")


@dataclass(frozen=True)
class Query:
    """One query, and who answers it."""

    language: str  # promql, sql or sh
    text: str


def section(alert: str) -> str:
    """Return what the runbook says of an alert."""
    found = re.search(SECTION.format(alert=alert), RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the runbook has no section {alert}"
    return found[1]


def queries(alert: str, *, after: bool = False) -> list[Query]:
    """Return the section's queries for Prometheus, for psql, and those that read the API's log lines.

    They lead to the cause. Those that are for `after` it was mended say that this worked.
    """
    leading, _, worked = section(alert).partition(WORKED)
    text = worked if after else leading
    found = [Query("promql", query) for query in in_markdown(text)]
    for language, block in FENCE.findall(text):
        if language == "sql":
            found.append(Query("sql", block))
        else:
            found += [
                Query("sh", line) for line in block.replace("\\\n", " ").splitlines() if LINES_OF_API.search(line)
            ]
    return found


def find(part: str, alert: str) -> Query:
    """Return the one query of the section that has this part, or is it."""
    found = list(dict.fromkeys(queries(alert)))  # what shows the cause may also show that it is gone
    holding = [query for query in found if query.text == part] or [query for query in found if part in query.text]
    assert len(holding) == 1, f"{len(holding)} queries of {alert} have {part!r}"
    return holding[0]


def holds_after(alert: str) -> Callable[[float], bool]:
    """Return what the section says of each value once it is mended, such as `this is 0` or `below 0.1`."""
    _, _, worked = section(alert).partition(WORKED)
    sentence = worked.partition("```")[0]
    if found := re.search(r"\b(?:is|are) (\d)\b", sentence):
        return partial(eq, float(found[1]))
    if found := re.search(r"\bbelow ([\d.e]+)\b(?! MB)", sentence):
        return partial(gt, float(found[1]))
    return lambda _: True
