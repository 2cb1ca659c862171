"""The one background thread of a process, and its event loop.

It serves what must go on while the user's own event loop is busy, blocked or absent: the pulse of
a hosting, and every channel of the blocking API. It starts with the first need, is a daemon, and
does not survive into a forked child, which starts its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from importlib import import_module
from typing import Any

from open_channel.io import fork

__all__ = ["Pulse", "background_loop"]


class _Background:
    """The thread and its loop; replaced in a forked child, where the thread does not exist."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._orphans: list[asyncio.AbstractEventLoop | None] = []

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = _new_event_loop()
                run = threading.Thread(
                    target=self._loop.run_forever, name="open-channel", daemon=True
                )
                run.start()
                fork.watch(self)
            return self._loop

    def forked(self) -> None:
        # The old loop object stays with fork's orphans: closing it would alter the parent's epoll.
        self._orphans.append(self._loop)
        self._lock = threading.Lock()
        self._loop = None


_background = _Background()


def background_loop() -> asyncio.AbstractEventLoop:
    """The background thread's event loop, running; started if need be."""
    return _background.loop()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        uvloop: Any = import_module("uvloop")
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Pulse:
    """A hosting's sign of life: raises its lock file's modification time once an interval.

    It is given by the background thread, so it goes on while the user's loop is busy and stops
    when the process is stopped or a C call holds the interpreter. It needs a descriptor of its
    own: the lock's is closed by another thread.
    """

    __slots__ = ("_fd", "_interval", "_loop", "_timer")

    def __init__(self, path: str, interval: float) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._loop = background_loop()
        fork.watch(self)
        self._loop.call_soon_threadsafe(self._beat)

    def _beat(self) -> None:
        if self._fd < 0:
            return
        with contextlib.suppress(OSError):
            os.utime(self._fd)
        self._timer = self._loop.call_later(self._interval, self._beat)

    def stop(self) -> None:
        """No more signs; again is harmless."""
        fork.unwatch(self)
        self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def forked(self) -> None:
        """In a child: the hosting is the parent's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
