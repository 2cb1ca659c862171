"""The one background thread of a process, and its event loop.

It serves what must go on while the user's own event loop is busy, blocked or absent: every channel
of the blocking API. It starts with the first need, is a daemon, and does not survive into a forked
child, which starts its own.
"""

from __future__ import annotations

import asyncio
import threading
from importlib import import_module
from typing import Any

from open_channel.io import fork

__all__ = ["background_loop"]


class _Background:
    """The thread and its loop; replaced in a forked child, where the thread does not exist."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._orphans: list[asyncio.AbstractEventLoop | None] = []
        fork.watch(self)

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = _new_event_loop()
                run = threading.Thread(target=loop.run_forever, name="open-channel", daemon=True)
                try:
                    run.start()
                except RuntimeError:  # once the main thread has ended, in Python 3.12.1
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    def forked(self) -> None:
        # The old loop object stays with fork's orphans: closing it would alter the parent's epoll.
        self._orphans.append(self._loop)
        self._lock = threading.Lock()
        self._loop = None
        fork.watch(self)


_background = _Background()


def background_loop() -> asyncio.AbstractEventLoop:
    """The background thread's event loop, running; started if need be.

    Raises RuntimeError when no thread can be started.
    """
    return _background.loop()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        uvloop: Any = import_module("uvloop")
    except (ImportError, RuntimeError):  # RuntimeError: when the main thread has ended already
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
