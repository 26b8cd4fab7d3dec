"""How fetches of the keys end: in kinds that can be counted, and in words that hold nothing of what was answered."""

import os
import ssl
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from socket import gaierror

import httpx

OK, EMPTY = "ok", "empty"
OUTCOMES = (OK, EMPTY, "certificate", "content", "status", "timeout", "unreachable")


class BadAnswer(Exception):
    """The key server answered, and not with keys; `kind` is one of OUTCOMES."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def explain(error: Exception) -> tuple[str, str]:
    """Return the kind of a failed fetch and why it failed; of what may quote the whole document only the type."""
    if isinstance(error, BadAnswer):
        return error.kind, str(error)
    name = type(error).__name__
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "timeout", name
    if not isinstance(error, httpx.TransportError):
        return "content", name
    causes = list(_causes(error))
    is_refused = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
    said = next((words for cause in causes if (words := _words(cause))), "")
    return "certificate" if is_refused else "unreachable", f"{name}: {said}" if said else name


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and what caused it; of several at once, as one for each address, the first."""
    while error:
        yield error
        group = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = group or error.__cause__ or error.__context__


def _words(error: BaseException) -> str:
    """Return the words of OpenSSL, of the resolver or of the system; none of them quotes what a server sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or ""
    if isinstance(error, gaierror):
        return error.strerror or ""
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""


def clock_offset(headers: Mapping[str, str]) -> float | None:
    """Return by how many seconds the clock of whoever answered is ahead of ours (RFC 9110, 6.6.1; RFC 9111, 5.1)."""
    try:
        made = parsedate_to_datetime(headers["date"]).timestamp()
        return made + int(headers.get("age", 0)) - time.time()
    except (KeyError, ValueError, OverflowError):
        return None
