"""Where the hosts of the database's URL are. libpq's own look-up of a name would not end at the deadline.

libpq gets each address as `hostaddr` beside its name, which TLS and passwords still go by
(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-HOSTADDR).
"""

import logging
import os
from collections.abc import MutableMapping
from concurrent.futures import Future
from errno import EAGAIN
from ipaddress import ip_address
from socket import EAI_NODATA, EAI_NONAME, SOCK_STREAM, getaddrinfo
from threading import Lock, Thread
from time import monotonic
from typing import Any

import psycopg2

from app.db import deadline

LONGEST_S = 10.0  # of a look-up that nobody gave a deadline
GONE = {EAI_NODATA, EAI_NONAME}  # the name, or its addresses
PATIENCE_S = 0.2  # for a name whose addresses are known from before: time is left to connect
TELL_EVERY_S = 60.0
FAILED = 'could not translate host name "{}" to address: {}'  # as libpq says it


logger = logging.getLogger(__name__)


class HostNotFound(psycopg2.OperationalError):
    """The database's host has no address, or no name server could be asked for it."""


class Resolver:
    """Looks names up, one thread a name, and knows the last addresses of each. Thread-safe."""

    def __init__(self) -> None:
        self.failed, self._told_at = 0, -TELL_EVERY_S
        self._lock = Lock()
        self._lookups: dict[str, Future[list[str]]] = {}
        self._known: dict[str, list[str]] = {}

    def find(self, name: str) -> list[str]:
        """Return the addresses of a name; the last ones, while no name server answers.

        Raises:
            HostNotFound: there is no such name, or no name server could be asked.
            deadline.DeadlineExceeded: no name server answered within the deadline.
        """
        lookup, known = self._lookup(name), self._known.get(name)
        left = min(deadline.remaining(), PATIENCE_S if known else LONGEST_S)
        try:
            return lookup.result(max(0.0, left))
        except TimeoutError:
            if known:
                return known
            raise deadline.DeadlineExceeded(left, FAILED.format(name, "no answer in time")) from None
        except OSError as error:
            if known and error.errno not in GONE:
                return known
            raise HostNotFound(FAILED.format(name, error.strerror)) from error

    def _lookup(self, name: str) -> Future[list[str]]:
        """Return the look-up that is under way, or begin one. Who comes later waits for the same answer."""
        with self._lock:
            if found := self._lookups.get(name):
                return found
            lookup: Future[list[str]] = Future()
            try:
                Thread(target=self._ask, args=(name, lookup), name="look-up", daemon=True).start()
            except RuntimeError as error:  # no more threads: nobody would end this look-up, so it is not kept
                lookup.set_exception(OSError(EAGAIN, str(error)))
            else:
                self._lookups[name] = lookup
            return lookup

    def _ask(self, name: str, lookup: Future[list[str]]) -> None:
        try:
            found = getaddrinfo(name.encode(), None, type=SOCK_STREAM)
            self._known[name] = addresses = [str(address[0]) for *_, address in found]
            lookup.set_result(addresses)
        except Exception as error:  # noqa: BLE001  it belongs to who waits
            self._note_failure(name, error)
            lookup.set_exception(error)
        finally:
            with self._lock:
                del self._lookups[name]

    def _note_failure(self, name: str, error: Exception) -> None:
        """Count a look-up in vain, and tell of it once a minute: while the last addresses serve, nothing else shows."""
        self.failed += 1
        if monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = monotonic()
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            logger.warning("the database's host %s cannot be looked up: %s", name, reason)


RESOLVER = Resolver()


def needs_look_up(parameters: MutableMapping[str, Any]) -> bool:
    """Tell whether one of libpq's parameters is a host whose address a name server has to tell."""
    is_told = "hostaddr" in parameters or "PGHOSTADDR" in os.environ
    return not is_told and any(map(is_name, str(parameters.get("host", "")).split(",")))


def resolve_hosts(_dialect: Any, _entry: Any, _arguments: Any, parameters: MutableMapping[str, Any]) -> None:
    """Give libpq an entry for each address of each host, as it would make them itself. SQLAlchemy's `do_connect`.

    Raises:
        psycopg2.OperationalError: no host has an address; a DeadlineExceeded if there was no time to find one.
    """
    if not needs_look_up(parameters):
        return
    hosts, ports = (str(parameters.get(name, "")).split(",") for name in ("host", "port"))
    entries = _entries(hosts, ports * len(hosts) if len(ports) == 1 else ports)
    parameters["host"], parameters["hostaddr"], each_port = map(",".join, zip(*entries, strict=True))
    if len(ports) > 1:
        parameters["port"] = each_port


def is_name(host: str) -> bool:
    """Tell whether a name server is asked for the host: it is no address, nor the folder of a socket."""
    try:
        ip_address(host)
    except ValueError:
        return host != "" and host[0] not in "/@"
    return False


def _entries(hosts: list[str], ports: list[str]) -> list[tuple[str, str, str]]:
    """Return host, address and port of each address. As with libpq, a host without one is no fault beside others."""
    entries, failure = [], None
    for host, port in zip(hosts, ports, strict=True):
        try:
            addresses = RESOLVER.find(host) if is_name(host) else [""]
        except psycopg2.OperationalError as error:
            failure = error
        else:
            entries += [(host, address, port) for address in addresses]
    if failure and not entries:
        raise failure
    return entries
