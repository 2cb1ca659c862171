"""How the loop wakes threads that wait, without ever waiting for one of them.

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
    from collections.abc import Callable

__all__ = ["Bell"]

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
