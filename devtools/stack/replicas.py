"""Replaces the replicas of the API one after the other: a new one serves before an old one goes."""

import csv
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

from devtools.stack.docker import CannotStart, ask, show_log

READY_S = 120.0
POLL_S = 0.5
VIEW = "http://127.0.0.1:8001/replicas;csv"  # inside the proxy's container alone
NUMBER, HASH = "com.docker.compose.container-number", "com.docker.compose.config-hash"


@dataclass(frozen=True)
class Replica:
    """A container of the API. `is_current`: of the present image and the present settings."""

    id: str
    name: str
    number: int
    is_running: bool
    is_current: bool
    addresses: frozenset[str]


def replace(image: str, wanted: int) -> None:
    """Leave `wanted` replicas of the present image and settings, and stop all others.

    Raises: CannotStart: a new one does not become ready. Those that served before still do.
    """
    present = Present(ask("image", "inspect", "--format", "{{.Id}}", image), ask("compose", "config", "--hash", "api"))
    for dead in (replica for replica in present.find() if not replica.is_running):
        ask("rm", "--force", dead.id)
    while sum(replica.is_current for replica in present.find()) < wanted:
        _add(present)
        for old in [replica for replica in present.find() if not replica.is_current][:1]:
            _retire(old)
    kept = [replica for replica in present.find() if replica.is_current][:wanted]
    _wait_for(kept, present)
    for surplus in [replica for replica in present.find() if replica not in kept]:
        _retire(surplus)


@dataclass(frozen=True)
class Present:
    """What a replica has to be made of: the id of the image, and Compose's hash of the settings after the name."""

    image: str
    settings: str

    def find(self) -> list[Replica]:
        """Return the replicas that there are, the oldest first."""
        ids = ask("compose", "ps", "--all", "--quiet", "api").split()
        found = map(self._read, json.loads(ask("inspect", *ids)) if ids else ())
        return sorted(found, key=lambda replica: replica.number)

    def _read(self, container: Any) -> Replica:
        labels, networks = container["Config"]["Labels"], container["NetworkSettings"]["Networks"].values()
        return Replica(
            id=container["Id"],
            name=container["Name"].lstrip("/"),
            number=int(labels[NUMBER]),
            is_running=container["State"]["Status"] == "running",
            is_current=(container["Image"], f"api {labels[HASH]}") == (self.image, self.settings),
            addresses=frozenset(network["IPAddress"] for network in networks),
        )


def _add(present: Present) -> None:
    """Start one more replica beside the others, and wait until the proxy sends it requests."""
    before = present.find()
    ask("compose", "up", "--detach", "--no-deps", "--no-recreate", "--scale", f"api={len(before) + 1}", "api")
    added = [replica for replica in present.find() if replica.id not in {other.id for other in before}]
    try:
        _verify_current(added)
        _wait_for(added, present)
    except CannotStart:
        for failed in added:
            ask("rm", "--force", failed.id)
        raise
    _tell(f"{', '.join(replica.name for replica in added)} serves")


def _verify_current(added: list[Replica]) -> None:
    """Raise CannotStart if Compose added none, or another kind: to add one more would have no end."""
    if not added or not all(replica.is_current for replica in added):
        raise CannotStart(
            "error: the image, the settings or the replicas changed meanwhile, the old ones still serve:"
            " run `make stack` again."
        )


def _wait_for(wanted: list[Replica], present: Present) -> None:
    """Return when the proxy finds all of these ready. Raise CannotStart if one ends, or READY_S have passed."""
    end, ids = monotonic() + READY_S, {replica.id for replica in wanted}
    while monotonic() < end:
        served = _served()
        waiting = [found for found in present.find() if found.id in ids and not found.addresses & served]
        if not waiting:
            return
        if not all(replica.is_running for replica in waiting):
            break
        sleep(POLL_S)
    logs = "".join(show_log("--index", str(replica.number), "api") for replica in waiting)
    raise CannotStart(f"{logs}error: a new replica of the API did not become ready, the old ones still serve.")


def _served() -> set[str]:
    """Return the addresses that the proxy has found ready, with its own check."""
    with suppress(CannotStart):
        table = ask("compose", "exec", "-T", "proxy", "wget", "-qO-", VIEW).lstrip("# ")
        rows = csv.DictReader(table.splitlines())
        return {row["addr"].partition(":")[0] for row in rows if row["check_status"] == "L7OK"}
    return set()


def _retire(replica: Replica) -> None:
    """Stop a replica, which first tells the proxy that it drains, and forget it."""
    ask("stop", replica.id)
    ask("rm", replica.id)
    _tell(f"{replica.name} is stopped")


def _tell(line: str) -> None:
    sys.stdout.write(f" {line}\n")
    sys.stdout.flush()
