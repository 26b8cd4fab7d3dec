"""Replicas of the stack's API are added, replaced and taken away while others serve."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devtools.stack import replicas
from devtools.stack.docker import CannotStart

DOCKER = '#!/bin/sh\nexec "{python}" -ES "{engine}" "{state}" "$@"\n'
OLD, NEW = ("sha256:old", "settings"), ("sha256:new", "settings")

pytestmark = pytest.mark.slow  # each command of docker starts a Python

Engine = Callable[..., Callable[[], Any]]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Put a `docker` on the path that has these replicas, and makes new ones of the image NEW. Return what it keeps."""

    def put(*present: tuple[str, str, str], start: str = "running", made_of: str = NEW[0]) -> Callable[[], Any]:
        fields = ("number", "image", "hash", "state")
        found = [dict(zip(fields, (str(n), *replica), strict=True)) for n, replica in enumerate(present, 1)]
        state = tmp_path / "state.json"
        kept = {"image": NEW[0], "hash": NEW[1], "start": start, "made_of": made_of, "replicas": found, "served": []}
        state.write_text(json.dumps(kept))
        docker = tmp_path / "docker"
        docker.write_text(
            DOCKER.format(python=sys.executable, engine=Path(__file__).with_name("engine.py"), state=state)
        )
        docker.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return lambda: json.loads(state.read_text())

    return put


def numbers(state: Any) -> list[int]:
    return [int(replica["number"]) for replica in state["replicas"]]


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ([NEW], 1, [1]),
        ([NEW], 3, [1, 2, 3]),
        ([NEW, NEW, NEW], 1, [1]),
        ([OLD], 1, [2]),
        ([OLD], 2, [2, 3]),
        ([OLD, OLD, OLD], 3, [4, 5, 6]),
        ([OLD, OLD, OLD], 1, [4]),
        ([OLD, NEW], 1, [2]),
        ([("sha256:new", "other settings")], 1, [2]),
    ],
)
def test_it_never_serves_with_fewer(
    engine: Engine, before: list[tuple[str, str]], wanted: int, after: list[int]
) -> None:
    """In between there are never fewer than the fewer of before and after, and at most one more than the more."""
    state = engine(*((*replica, "running") for replica in before))
    replicas.replace("x-api:local", wanted)
    assert numbers(state()) == after
    assert min(state()["served"]) == min(len(before), wanted)
    assert max(state()["served"]) <= max(len(before), wanted) + 1


@pytest.mark.parametrize("state_of_new", ["restarting", "exited"])
def test_a_new_one_that_fails_leaves_the_old_ones(engine: Engine, state_of_new: str) -> None:
    """It is shown with its own last lines, and removed."""
    state = engine((*OLD, "running"), (*OLD, "running"), start=state_of_new)
    with pytest.raises(CannotStart, match=r"^api-3 \| RATE_LIMIT: wrong\n\nerror: .* the old ones still serve\.$"):
        replicas.replace("x-api:local", 2)
    assert numbers(state()) == [1, 2]
    assert min(state()["served"]) == 2


def test_an_image_that_changes_meanwhile_ends_it(engine: Engine) -> None:
    """Another build makes new ones of an image that is not the one to reach: they would be replaced without end."""
    state = engine((*OLD, "running"), made_of="sha256:newer")
    with pytest.raises(CannotStart, match="changed meanwhile"):
        replicas.replace("x-api:local", 1)
    assert numbers(state()) == [1]


def test_what_has_ended_is_forgotten(engine: Engine) -> None:
    """It is no replica, though it was of the present image: another one takes its place."""
    state = engine((*NEW, "exited"), (*NEW, "running"))
    replicas.replace("x-api:local", 2)
    assert numbers(state()) == [2, 3]
