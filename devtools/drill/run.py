"""`python -m devtools drill`: one incident by hand, or all in turn."""

import fcntl
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import sleep

from app.settings import Settings, SettingsError
from devtools.drill import places
from devtools.drill.catalogue import INCIDENTS
from devtools.drill.incident import Incident
from devtools.drill.load import ORDINARY, sending
from devtools.drill.own import own
from devtools.drill.places import PLACES
from devtools.drill.target import Target
from devtools.drill.undo import DrillFailed
from devtools.environment import HOME

Say = Callable[[str], None]
OPENERS = {"dev": places.dev, "stack": places.stack, "own": own}
WHERE = {"span": "span", "line": "log line", "label": "alert's label"}


def show_list(say: Say) -> None:
    """Say of each incident its name, the alert, where it can be made by hand, and what goes wrong."""
    for incident in INCIDENTS.values():
        places = ", ".join(find_places(incident)) or "make drill alone"
        say(f"{incident.name}: {incident.alert} (on {places})\n    {incident.sentence}")


def find_places(incident: Incident) -> list[str]:
    """Return where an incident can be made."""
    return [place.name for place in PLACES.values() if incident.needs <= place.changes]


def run(name: str, on: str, seconds: float, say: Say) -> None:
    """Make the incident `name`, or all in turn, for so many seconds each, while users ask; then take it back.

    Ctrl-C and SIGTERM end it early.

    Raises:
        SettingsError: there is no such incident or place, it cannot be made there, or this is a production.
        DrillFailed: the place does not run, another drill does, or the fault cannot be made or taken back.
    """
    settings = Settings.load()
    places.refuse_production(settings)
    incidents = _choose(name, on)
    for signum in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
    with only_one(name), OPENERS[on](settings) as target:
        for incident in incidents:
            if incident.needs <= target.changes.keys():
                make(incident, target, seconds, say)


def _choose(name: str, on: str) -> list[Incident]:
    if on not in PLACES:
        raise SettingsError(f"--on: must be one of {', '.join(PLACES)}.")
    if name == "all":
        return [incident for incident in INCIDENTS.values() if on in find_places(incident)]
    if name not in INCIDENTS:
        raise SettingsError(f"There is no drill {name}: `python -m devtools drill list` names them.")
    if on not in find_places(INCIDENTS[name]):
        raise SettingsError(f"{name} cannot be made on {on}, but on {' or '.join(find_places(INCIDENTS[name]))}.")
    return [INCIDENTS[name]]


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one drill run at a time. Raise DrillFailed, which names the other one, if another does."""
    HOME.mkdir(exist_ok=True)
    with (HOME / "drill.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DrillFailed(f"The drill {lock.read().strip()} runs. One at a time: end it with Ctrl-C.") from None
        lock.truncate(0)
        lock.write(f"{name}\n")
        lock.flush()
        yield


def make(incident: Incident, target: Target, seconds: float, say: Say) -> None:
    """Make one incident for so many seconds, say where it shows, and take it back."""
    say("\n".join(describe(incident, target)))
    with sending(target, ORDINARY) as answers, ExitStack() as fault:
        fault.enter_context(incident.inject(target))
        if incident.load:
            fault.enter_context(sending(target, incident.load))
        say(f"It is made, for {seconds:.0f} s. Ctrl-C takes it back.")
        try:
            sleep(seconds)
        except KeyboardInterrupt:
            say("")
    statuses = sorted({status for _, status in answers})
    counts = {status: sum(n for (_, one), n in answers.items() if one == status) for status in statuses}
    said = ", ".join(f"{number} x {status or 'no answer'}" for status, number in counts.items())
    say(f"It is taken back. Ordinary users got {said}.")


def describe(incident: Incident, target: Target) -> Iterator[str]:
    """Yield lines: what goes wrong, which alert is to fire, and what to look at."""
    yield f"\n{incident.name}: {incident.sentence}"
    yield f"  alert: {incident.alert}, and its section in observability/runbook.md"
    for sign in incident.signs:
        yield f"  {WHERE[sign.where]}: {sign.key} is {sign.value.replace('{table}', target.table)}"
    for number, step in enumerate(incident.steps, 1):
        yield f"  step {number}: the query with {step.query}"
    yield f"  the API: {target.urls[0]}; its log lines: {target.lines}"
