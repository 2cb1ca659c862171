"""What threads and the loop share, without the loop ever waiting for a thread.

A ``threading.Condition`` would not do: who wakes acquires its lock, and a thread that has it at
this moment may be in a signal handler, which waits for an answer of the loop's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from open_channel.rlock import RLock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Bell", "Errand", "Guard"]

_T = TypeVar("_T")

_MOMENT = 0.001  # seconds: a thread that has the guard lacks only the interpreter, as mostly


class Bell:
    """Wakes all who wait."""

    def __init__(self) -> None:
        self._waiting: deque[threading.Lock] = deque()  # each is released to wake a thread

    def ring(self) -> None:
        """Let all who wait look again."""
        waiting = self._waiting
        with contextlib.suppress(IndexError):  # several threads may ring
            while waiting:
                waiting.popleft().release()

    def wait_for(self, look: Callable[[], _T | None], timeout: float | None) -> _T | None:
        """What ``look()`` returns once that is not None; None when ``timeout`` seconds pass first.

        ``timeout`` is at most ``threading.TIMEOUT_MAX``; None waits for ever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        found = look()
        while found is None:
            woken = threading.Lock()
            woken.acquire()
            self._waiting.append(woken)
            try:
                # What came before this thread was in the queue has rung for others.
                if (found := look()) is None:
                    left = -1.0 if deadline is None else max(0.0, deadline - time.monotonic())
                    if not woken.acquire(timeout=left):
                        return look()
            finally:
                with contextlib.suppress(ValueError):  # it was woken
                    self._waiting.remove(woken)
        return found


class Guard:
    """Held by threads for moments, one at a time: ``with guard.lock``; the loop takes it when it is
    free.

    Threads use the lock itself, whose methods are not Python's: no signal handler can raise between
    its acquisition and the block, or between the block and its release, and leave it taken.
    Reentrant, because a handler may use what it has interrupted.
    """

    __slots__ = ("_again", "_due", "_loop", "lock")

    def __init__(self, loop: asyncio.AbstractEventLoop, again: Callable[[], object]) -> None:
        self.lock = RLock()
        self._loop = loop
        self._again = again
        self._due = False

    def take(self) -> bool:
        """In the loop: take it, if it is free, until ``leave()``; else ``again()`` is called soon.

        Threads are not asked to tell when they let go: one that a handler interrupts might not.
        """
        if self.lock.acquire(blocking=False):
            return True
        if not self._due:
            self._due = True
            self._loop.call_later(_MOMENT, self._try_again)
        return False

    def _try_again(self) -> None:
        self._due = False
        self._again()

    def leave(self) -> None:
        """In the loop: let go of it."""
        self.lock.release()


class Errand:
    """What the loop is to do for threads: it is told once, however many ask before it has begun."""

    __slots__ = ("_do", "_loop", "told")

    def __init__(self, loop: asyncio.AbstractEventLoop, do: Callable[[], object]) -> None:
        self._loop = loop
        self._do = do
        self.told = False
        """Whether it knows; ``do()`` begins with making this false, so that it is told again of
        what is left from then on."""

    def ask(self) -> None:
        """Have it done. Two threads may both find that it is not told: it looks once too often.

        What the loop will find must be there before. Where a signal handler may have raised in
        between, ``again()`` tells it anyway.
        """
        if not self.told:
            try:
                self.told = True
                self.again()
            except BaseException:  # a KeyboardInterrupt, say
                self.told = False
                raise

    def again(self) -> None:
        """Have it done, told or not."""
        self._loop.call_soon_threadsafe(self._do)
