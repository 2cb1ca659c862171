"""Whose thread this is: an event loop's objects are its own thread's alone.

A foreign thread would not even wake the loop, so what it wrote would leave at some later time, or
never (``loop.call_soon()`` is not thread-safe, and says so in asyncio's debug mode alone).
"""

from __future__ import annotations

import asyncio
import threading

from open_channel.errors import ForeignThread

__all__ = ["check_thread"]


def check_thread(owner: int, loop: asyncio.AbstractEventLoop) -> int:
    """The ident of this thread, in which the loop runs; it ran in the thread ``owner``.

    Raises ForeignThread in another thread.
    """
    here = threading.get_ident()
    if here != owner and _running() is not loop:  # which may have moved to another thread
        names = (thread.name for thread in threading.enumerate() if thread.ident == owner)
        raise ForeignThread(
            owner=next(names, "that has ended"), thread=threading.current_thread().name
        )
    return here


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
