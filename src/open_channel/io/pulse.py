"""A hosting's pulse: a sign of life that needs no connection and no event loop.

A thread raises the lock file's modification time once an interval. It goes on while the user's
event loop is busy or blocked, and stops when the process is stopped or a C call holds the
interpreter: just what tells a host that is busy from one that is hung. A thread of its own, since
the background thread's loop may be uvloop's, whose import (15 ms) a process that merely hosts
should not pay for.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from open_channel.io import fork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pulse"]


class Pulse:
    """Beats from its making until ``stop()``, or until there is nothing to be a sign of.

    ``alive`` is asked before each beat, in the pulse's own thread.
    """

    __slots__ = ("_alive", "_fd", "_interval", "_stop")

    def __init__(self, path: str, interval: float, alive: Callable[[], bool]) -> None:
        # A descriptor of its own: the lock's own may be closed by another thread at any moment.
        with fork.guard:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            fork.watch(self)
        self._interval = interval
        self._alive = alive
        self._stop = threading.Event()
        threading.Thread(target=self._beat, name="open-channel-pulse", daemon=True).start()

    def _beat(self) -> None:
        while not self._stop.wait(self._interval) and self._alive():
            with contextlib.suppress(OSError):  # a file system gone read-only, say
                os.utime(self._fd)
        with fork.guard:
            fork.unwatch(self)
            os.close(self._fd)

    def stop(self) -> None:
        """No more signs; again is harmless."""
        self._stop.set()

    def forked(self) -> None:
        """In a child, where the thread does not exist: the hosting is the parent's."""
        os.close(self._fd)
