"""The lock: its block is left with the lock free, whatever is raised, and where."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from open_channel.rlock import RLock


class Over(Exception):
    """What the signal handler raises."""


def many(lock: RLock) -> None:
    for _ in range(50):
        with lock:
            pass


def test_a_handler_that_raises_leaves_it_free():
    def handler(*_: object) -> None:
        raise Over

    lock = RLock()
    interrupted = taken = 0
    before = signal.signal(signal.SIGALRM, handler)
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            with pytest.raises(Over):  # noqa: PT012 (it interrupts whatever comes next)
                signal.setitimer(signal.ITIMER_REAL, 0.0001)
                while True:
                    many(lock)
            interrupted += 1
            taken += lock._is_owned()  # type: ignore[attr-defined] # a Condition asks it for that
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (interrupted > 300, taken) == (True, 0)


def test_it_is_a_lock_that_its_thread_may_take_again():
    lock = RLock()

    def taken_elsewhere() -> bool:
        found: list[bool] = []

        def look() -> None:
            if lock.acquire(blocking=False):
                lock.release()
            else:
                found.append(True)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return bool(found)

    with lock as taken:
        assert taken
        with lock:
            assert taken_elsewhere()
        assert taken_elsewhere()
    assert not taken_elsewhere()
    with pytest.raises(Over), lock:
        raise Over
    assert not taken_elsewhere()
