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

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["Bell", "Errand", "Guard"]

_T = TypeVar("_T")


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
    """Held by threads for moments, one at a time; the loop takes it when it is free.

    Reentrant, for signal handlers.
    """

    __slots__ = ("_again", "_lock", "_wanted")

    def __init__(self, again: Callable[[], object]) -> None:
        self._lock = threading.RLock()
        self._again = again
        self._wanted = False

    def __enter__(self) -> None:
        """Wait for it."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self.leave()

    def leave(self) -> None:
        """Let go of it; where the loop has wanted it meanwhile, tell it."""
        self._lock.release()
        if self._wanted:
            self._wanted = False
            self._again()

    def take(self) -> bool:
        """In the loop: take it, if it is free, until ``leave()``; else ``again()`` is called when a
        thread lets go of it.
        """
        if self._lock.acquire(blocking=False):
            return True
        self._wanted = True
        # Whoever had it may have let go of it, and not have seen that yet.
        if self._lock.acquire(blocking=False):
            self._wanted = False
            return True
        return False


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
        """Have it done. Two threads may both find that it is not told: it looks once too often."""
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
