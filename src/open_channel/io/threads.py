"""Whose thread this is: an event loop's objects are its own thread's alone.

A foreign thread would not even wake the loop, so what it wrote would leave at some later time, or
never (``loop.call_soon()`` is not thread-safe, and says so in asyncio's debug mode alone).
"""

from __future__ import annotations

import threading

from open_channel.errors import ForeignThread

__all__ = ["check_thread"]


def check_thread(owner: int) -> None:
    """Raises ForeignThread in another thread than the one with the ident ``owner``."""
    if threading.get_ident() != owner:
        names = (thread.name for thread in threading.enumerate() if thread.ident == owner)
        raise ForeignThread(
            owner=next(names, "that has ended"), thread=threading.current_thread().name
        )
