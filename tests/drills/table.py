"""The table of incidents in docs/observe.md, as the drill saw them."""

import fcntl
import re

from devtools.drill.catalogue import INCIDENTS
from devtools.drill.incident import Incident, Sign, Step
from devtools.drill.run import find_places
from tests.drills.judge import Seen
from tests.drills.servers import TABLE
from tests.observability.sources import OBSERVE

HEAD = "| drill | what goes wrong | alert | where the cause shows | the runbook's queries that lead there | on |"
TABLE_OF_PAGE = re.compile(rf"^{re.escape(HEAD)}\n(?:\|.*\n)+", re.MULTILINE)
ROW = re.compile(r"^\| `([\w-]+)` \| [^|]+ \| \[(\w+)\]", re.MULTILINE)
LONGEST = 90


def rows_of_page() -> dict[str, str]:
    """The incidents of the page, and their alerts."""
    (table,) = TABLE_OF_PAGE.findall(OBSERVE.read_text())
    return dict(ROW.findall(table))


def write(seen: dict[str, Seen]) -> None:
    """Write what was seen into the page. The row of an incident that was not made stays as it is."""
    with OBSERVE.open("r+") as page:
        fcntl.flock(page, fcntl.LOCK_EX)  # another process may have made the other incidents
        text = page.read()
        (table,) = TABLE_OF_PAGE.findall(text)
        rows = {found[1]: found[0] for found in re.finditer(r"^\| `([\w-]+)` .*$", table, re.MULTILINE)}
        rows |= {name: row(INCIDENTS[name], seen[name]) for name in seen}
        lines = [HEAD, "|---" * (HEAD.count("|") - 1) + "|", *(rows[name] for name in INCIDENTS if name in rows)]
        page.seek(0)
        page.write(text.replace(table, "\n".join(lines) + "\n"))
        page.truncate()


def row(incident: Incident, seen: Seen) -> str:
    alert = f"[{incident.alert}](../observability/runbook.md#{incident.alert.lower()})"
    signs = "<br>".join(of_sign(sign, value) for sign, value in seen.signs.items())
    steps = "<br>".join(f"{number}. {of_step(*step)}" for number, step in enumerate(seen.steps.items(), 1))
    cells = (f"`{incident.name}`", incident.sentence, alert, signs, steps, ", ".join(find_places(incident)))
    return f"| {' | '.join(cells)} |"


def of_sign(sign: Sign, value: str | None) -> str:
    where = {"span": "span", "line": "log line", "label": "label"}[sign.where]
    return f"{where}: `{sign.key}` is {code((value or '').splitlines()[-1].strip())}"


def of_step(step: Step, line: str | None) -> str:
    return f"{code(step.query)}: {code(re.sub(r'} [^ ]+$', '}', line or ''))}"


def code(text: str) -> str:
    """The text as code in a cell, with the name of the application's own table."""
    text = re.sub(rf"\b{TABLE}\b", "task", text).replace("|", "\\|")
    text = re.sub(r"127\.0\.0\.1:\d+", "host:port", text)
    return f"`{text if len(text) <= LONGEST else text[:LONGEST] + '…'}`"
