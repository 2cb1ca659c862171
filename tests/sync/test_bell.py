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


async def test_the_loop_takes_a_guard_that_is_free():
    told: list[str] = []
    guard = Guard(asyncio.get_running_loop(), lambda: told.append("again"))
    assert guard.take()
    guard.leave()
    with guard.lock, guard.lock:  # a signal handler in the midst
        assert guard.take()
        guard.leave()
    await asyncio.sleep(0.01)
    assert not told


async def test_the_loop_comes_again_until_a_thread_has_let_go_of_the_guard():
    taken, held, over = asyncio.Event(), threading.Event(), threading.Event()
    tries = 0

    def again() -> None:
        nonlocal tries
        tries += 1
        if guard.take():
            guard.leave()
            taken.set()
        elif tries == 3:
            over.set()

    def hold() -> None:
        with guard.lock:
            held.set()
            over.wait(20)

    guard = Guard(asyncio.get_running_loop(), again)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    assert not guard.take()
    assert not guard.take()  # which is not one timer more
    async with asyncio.timeout(20):
        await taken.wait()
    thread.join(20)
    assert tries > 3


async def test_the_loop_has_it_in_the_end_however_they_meet():
    taken, over = asyncio.Event(), threading.Event()

    def again() -> None:
        if guard.take():
            guard.leave()
            taken.set()

    def hold() -> None:
        while not over.is_set():
            with guard.lock:
                pass

    guard = Guard(asyncio.get_running_loop(), again)
    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        async with asyncio.timeout(20):
            for _ in range(500):
                taken.clear()
                again()
                await taken.wait()
    finally:
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
