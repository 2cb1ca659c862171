"""The one background thread of a process, and its event loop.

It serves what must go on while the user's own event loop is busy, blocked or absent: every channel
of the blocking API. It starts with the first need, is a daemon, and does not survive into a forked
child, which starts its own.
"""

from __future__ import annotations

import _thread
import asyncio
import os
import threading
from importlib import import_module
from types import BuiltinFunctionType
from typing import Any

from open_channel.errors import NoThread
from open_channel.io import fork
from open_channel.rlock import RLock

__all__ = ["background_loop", "background_runs"]

_PATCHED = (
    "gevent or eventlet has replaced threads, and this one would block all of theirs: "
    "use real ones (with gunicorn its gthread worker), or asyncio"
)


class _Background:
    """The thread and its loop; replaced in a forked child, where the thread does not exist."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._orphans: list[asyncio.AbstractEventLoop | None] = []
        fork.watch_always(self)

    def loop(self) -> asyncio.AbstractEventLoop:
        if (loop := self._loop) is not None:  # without the lock, which this thread may have
            return loop
        with self._lock:
            if self._loop is None:
                loop = _start()
                if self._loop is None:
                    self._loop = loop
                else:  # a signal handler or a finalizer has come here in the midst of that
                    loop.call_soon_threadsafe(loop.stop)
            return self._loop

    @property
    def runs(self) -> bool:
        return self._loop is not None

    def forked(self) -> None:
        # The old loop object stays with fork's orphans: closing it would alter the parent's epoll.
        self._orphans.append(self._loop)
        self._lock = RLock()
        self._loop = None


_background = _Background()


def background_loop() -> asyncio.AbstractEventLoop:
    """The background thread's event loop, running; started if need be.

    Raises NoThread when no thread can be started.
    """
    return _background.loop()


def background_runs() -> bool:
    """Whether it was started."""
    return _background.runs


def _start() -> asyncio.AbstractEventLoop:
    if not isinstance(_thread.start_new_thread, BuiltinFunctionType):
        raise NoThread(reason=_PATCHED)
    loop = _new_event_loop()
    try:
        threading.Thread(target=_run, args=[loop], name="open-channel", daemon=True).start()
    except RuntimeError as error:  # too many; or the main thread has ended, in Python 3.12.1
        loop.close()
        raise NoThread(reason=str(error)) from error
    return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()  # it was one too many: see loop()


def _import_uvloop() -> Any:
    try:
        return import_module("uvloop")
    except (ImportError, RuntimeError):  # not there; the main thread has ended already
        return None


# With this module, and not with the first use: a signal handler, a finalizer or a fork that came in
# the midst of that would find half of it.
_uvloop = _import_uvloop()


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if _uvloop is not None:
        try:
            # Where one of these is closed, the loop is given its number for one of its own, and
            # libuv ends the process with an assertion when it closes that.
            for standard in range(3):
                os.fstat(standard)
            loop: asyncio.AbstractEventLoop = _uvloop.new_event_loop()
        except (RuntimeError, OSError):  # also: what it needs of the system is refused
            pass
        else:
            return loop
    return asyncio.new_event_loop()
