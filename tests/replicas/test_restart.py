"""A new version comes, one process after the other, and nobody notices."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from threading import Event

import pytest

from tests.replicas.service import Service
from tests.replicas.users import Owner, act, owners
from tests.support import wait_until

RATE, BETWEEN, ROW_S = 100, 200, 0.005


@pytest.mark.slow
def test_a_rolling_restart_fails_no_request(serve_all: Callable[..., AbstractContextManager[Service]]) -> None:
    """Each process is told to go, drains, ends, and starts again, while 20 users read and write.

    No request fails, and each answer is what its user's steps led to. Rows are slow, so that each process has requests
    in flight when it is told. Half of the users keep their connection to HAProxy, the others open one for each request.
    """
    done = Event()
    with serve_all() as service, ThreadPoolExecutor(1) as threads:
        service.slow_down(ROW_S)
        walking = owners(service.port)
        for owner in walking[::2]:
            owner.reconnects = True
        acting = threads.submit(act, walking, RATE, lambda _: not done.is_set())
        try:
            codes = [restart(service, walking, number) for number in range(len(service.replicas))]
        finally:
            done.set()
        acting.result()
    assert codes == [0] * len(codes)
    assert [what for owner in walking for what in owner.wrong + owner.foreign] == []


def restart(service: Service, walking: list[Owner], number: int) -> int:
    """Replace a process amid steps of the users. Return the exit code of the old one."""
    before = sum(owner.steps for owner in walking)
    wait_until(lambda: sum(owner.steps for owner in walking) > before + BETWEEN, seconds=60)
    replica = service.replicas[number]
    code = replica.leave()
    service.start([replica])
    return code
