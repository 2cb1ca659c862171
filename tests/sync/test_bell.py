"""``Bell``, ``Guard`` and ``Errand``: who waits is woken, and the loop, which waits for nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import cast

import pytest

from open_channel.sync.bell import Bell, Errand, Guard


def test_what_is_there_is_not_waited_for():
    assert Bell().wait_for(lambda: "there", 0) == "there"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout_leaves_nothing_behind(timeout: float):
    bell = Bell()
    assert bell.wait_for(lambda: None, timeout) is None
    assert not bell._waiting
    bell.ring()


def test_what_comes_while_it_begins_to_wait_is_found():
    bell, found = Bell(), iter([None, "between"])
    assert bell.wait_for(lambda: next(found), None) == "between"
    assert not bell._waiting


def test_what_comes_in_the_last_moment_is_found():
    bell, found = Bell(), iter([None, None, "late"])
    assert bell.wait_for(lambda: next(found), 0) == "late"


def test_all_who_wait_are_woken_and_each_thing_goes_to_one():
    bell, things, taken = Bell(), list[int](), list[int]()

    def take() -> None:
        while (thing := bell.wait_for(lambda: things.pop() if things else None, 20)) != -1:
            assert thing is not None
            taken.append(thing)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1000):
        things.append(number)
        bell.ring()
    deadline = time.monotonic() + 20
    while len(taken) < 1000 and time.monotonic() < deadline:
        time.sleep(0.001)
    things += [-1] * 4
    bell.ring()
    for thread in threads:
        thread.join(20)
    assert sorted(taken) == list(range(1000))
    assert not bell._waiting


def test_the_loop_takes_a_guard_that_is_free():
    told: list[str] = []
    guard = Guard(lambda: told.append("again"))
    assert guard.take()
    guard.leave()
    with guard, guard:  # a signal handler in the midst
        pass
    assert not told


def test_a_thread_that_has_a_guard_tells_the_loop_when_it_lets_go_of_it():
    told: list[str] = []
    guard = Guard(lambda: told.append("again"))
    with guard:
        loop = threading.Thread(target=lambda: told.append(str(guard.take())))
        loop.start()
        loop.join(20)
        assert told == ["False"]
    assert told == ["False", "again"]
    with guard:
        pass
    assert told == ["False", "again"]


def test_the_loop_is_told_or_has_it_however_they_meet():
    again = threading.Event()
    guard, over = Guard(again.set), threading.Event()

    def hold() -> None:
        while not over.is_set():
            with guard:
                pass

    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(500):
        again.clear()
        if guard.take():
            guard.leave()
        else:
            assert again.wait(20)
    over.set()
    for thread in threads:
        thread.join(20)


class Loop:
    """Keeps what it is told, and may be interrupted at that."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.interrupted = False

    def call_soon_threadsafe(self, callback: object) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.told.append(callback)


def test_the_loop_is_told_once_until_it_has_begun():
    loop = Loop()
    errand = Errand(cast("asyncio.AbstractEventLoop", loop), list)
    errand.ask()
    errand.ask()
    assert loop.told == [list]
    errand.told = False
    errand.ask()
    assert loop.told == [list, list]


def test_who_is_interrupted_while_telling_has_not_told():
    loop = Loop()
    errand = Errand(cast("asyncio.AbstractEventLoop", loop), list)
    loop.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        errand.ask()
    loop.interrupted = False
    errand.ask()
    assert loop.told == [list]
