"""Entity tags (RFC 9110, 8.8.3 and 13.1): a task's version, for caches and against lost updates.

A tag that cannot be one of ours is no error: it matches nothing, and neither does a header that is no list of tags.
"""

import re
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "The client's copy is current."}}
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_TAGS = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|$))*")  # empty elements too (RFC 9110, 5.6.1)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")

Tags = Annotated[list[str] | None, Header()]


def etag(version: int) -> str:
    """Return the strong entity tag of a resource at `version`."""
    return f'"{version}"'


class Known(NamedTuple):
    """What a client holds already: any version, or these."""

    any: bool
    versions: list[int]

    def holds(self, version: int) -> bool:
        """Tell whether the client needs no second copy of `version`."""
        return self.any or version in self.versions


async def if_match(if_match: Tags = None) -> list[int] | None:
    """Return the versions that a change may start from, None for any. Weak tags never match here (13.1.1)."""
    if if_match is None or _is_any(if_match):
        return None
    return [version for weak, version in _versions(if_match) if not weak]


async def if_none_match(if_none_match: Tags = None) -> Known:
    """Return what the client holds already, by weak or strong tags (13.1.2)."""
    tags = if_none_match or []
    return Known(_is_any(tags), [version for _, version in _versions(tags)])


def _is_any(tags: list[str]) -> bool:
    return [tag.strip() for tag in tags] == ["*"]


def _versions(tags: list[str]) -> list[tuple[bool, int]]:
    line = ",".join(tags)
    found = _TAG.findall(line) if _TAGS.fullmatch(line) else []
    return [(bool(weak), int(opaque)) for weak, opaque in found if _VERSION.fullmatch(opaque)]


IfMatch = Annotated[list[int] | None, Depends(if_match)]
IfNoneMatch = Annotated[Known, Depends(if_none_match)]
