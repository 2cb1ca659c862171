"""What a forked child must let go of.

A child shares its parent's open file descriptions: its locks, which it must not unlock but only
close, and its connections and listening sockets, which would outlive the parent in the child.
Event loops are shared too (the epoll set is one), so the child may not unregister anything: it
closes the descriptors themselves and never touches the parent's objects again.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from open_channel.io.interfaces import Forkable

__all__ = ["guard", "unwatch", "watch", "watch_weakly"]


# A fork hook cannot be taken back, so there is one for all, and this is what it works on.
_live: dict[int, Forkable] = {}
_weakly: WeakValueDictionary[int, Forkable] = WeakValueDictionary()
_orphans: list[Forkable] = []


guard = threading.RLock()
"""Held by whoever has a lock file or a socket that is not watched yet, or no longer.

A fork takes it. Or a child that is forked in that moment by another thread would keep a descriptor
that nobody there knows: with it a lock, beyond the death of its holder, or a connection, whose
other side would never see its end. Held for a few system calls that do not wait. Reentrant, because
a signal handler may fork while its thread has it."""


def watch(thing: Forkable) -> None:
    """Call ``thing.forked()`` in every child that is forked from now on."""
    _live[id(thing)] = thing


def watch_weakly(thing: Forkable) -> None:
    """... as long as ``thing`` is there: for what closes its descriptors itself before it goes."""
    _weakly[id(thing)] = thing


def unwatch(thing: Forkable) -> None:
    """``thing`` holds no descriptors any more; again is harmless."""
    _live.pop(id(thing), None)


def _in_child() -> None:
    orphans = [*_live.values(), *_weakly.values()]
    _live.clear()
    _weakly.clear()
    # Kept for ever: a destructor that ran later could close a descriptor number reused by then.
    _orphans.extend(orphans)
    try:
        for orphan in orphans:
            orphan.forked()
    finally:
        guard.release()


os.register_at_fork(before=guard.acquire, after_in_parent=guard.release, after_in_child=_in_child)
