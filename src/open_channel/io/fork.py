"""What a forked child must let go of.

A child shares its parent's open file descriptions: its locks, which it must not unlock but only
close, and its connections and listening sockets, which would outlive the parent in the child.
Event loops are shared too (the epoll set is one), so the child may not unregister anything: it
closes the descriptors themselves and never touches the parent's objects again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_channel.io.interfaces import Forkable

__all__ = ["unwatch", "watch"]


# A fork hook cannot be taken back, so there is one for all, and this is what it works on.
_live: dict[int, Forkable] = {}
_orphans: list[Forkable] = []


def watch(thing: Forkable) -> None:
    """Call ``thing.forked()`` in every child that is forked from now on."""
    _live[id(thing)] = thing


def unwatch(thing: Forkable) -> None:
    """``thing`` holds no descriptors any more; again is harmless."""
    _live.pop(id(thing), None)


def _in_child() -> None:
    orphans = list(_live.values())
    _live.clear()
    # Kept for ever: a destructor that ran later could close a descriptor number reused by then.
    _orphans.extend(orphans)
    for orphan in orphans:
        orphan.forked()


os.register_at_fork(after_in_child=_in_child)
