"""What a forked child must let go of.

A child shares its parent's open file descriptions: its locks, which it must not unlock but only
close, and its connections and listening sockets, which would outlive the parent in the child.
Event loops are shared too (the epoll set is one), so the child may not unregister anything: it
closes the descriptors themselves and never touches the parent's objects again.

``os.fork()`` calls a hook for that. C code that forks, as uWSGI does, mostly calls none: then it is
done when the child uses the library for the first time, which ``notice()`` is there for.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from open_channel.rlock import RLock

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from open_channel.io.interfaces import Forkable

__all__ = ["guard", "notice", "unwatch", "watch", "watch_always", "watch_weakly"]


# A fork hook cannot be taken back, so there is one for all, and this is what it works on.
_always: list[Forkable] = []
_live: dict[int, Forkable] = {}
_weakly: WeakValueDictionary[int, Forkable] = WeakValueDictionary()
_orphans: list[Forkable] = []

_pid = os.getpid()
"""The process that has let go of all that its parent had; 0 while it does so."""
_noticing: dict[int, RLock] = {}
"""By process: a child of C code's may be forked while another thread has its parent's."""


guard = RLock()
"""Held by whoever has a lock file or a socket that is not watched yet, or no longer.

A fork takes it. Or a child that is forked in that moment by another thread would keep a descriptor
that nobody there knows: with it a lock, beyond the death of its holder, or a connection, whose
other side would never see its end. Held for a few system calls that do not wait. Reentrant, because
a signal handler may fork while its thread has it. A child has another one, since C code forks while
any thread has it: look it up whenever it is needed."""


def watch(thing: Forkable) -> None:
    """Call ``thing.forked()`` in every child that is forked from now on."""
    _live[id(thing)] = thing


def watch_weakly(thing: Forkable) -> None:
    """... as long as ``thing`` is there: for what closes its descriptors itself before it goes."""
    _weakly[id(thing)] = thing


def watch_always(thing: Forkable) -> None:
    """... and in the children of these too: for what each process has one of."""
    _always.append(thing)


def unwatch(thing: Forkable) -> None:
    """``thing`` holds no descriptors any more; again is harmless."""
    _live.pop(id(thing), None)


def notice() -> None:
    """Do what the hook does, if this is a child in which it was not called; in any thread.

    Whoever is to use what may be the parent's calls it before, and before it takes ``guard``.
    """
    here = os.getpid()
    if here != _pid:
        with _noticing.setdefault(here, RLock()):  # the others wait until it is done
            if here != _pid:
                _in_child()


def _in_child() -> None:
    global guard, _pid  # noqa: PLW0603 (one for each process)
    _pid = 0
    guard = RLock()
    for thing in _always:
        thing.forked()
    _let_go(_live)
    _let_go(_weakly)
    _pid = os.getpid()


def _let_go(watched: MutableMapping[int, Forkable]) -> None:
    # One by one: a signal handler that uses the library in the midst of it does the rest.
    while not _pid:
        try:
            thing = watched.popitem()[1]
        except KeyError:
            return
        # For ever: a destructor that ran later could close a descriptor number reused by then.
        _orphans.append(thing)
        with contextlib.suppress(OSError):  # the child has closed its descriptors itself
            thing.forked()


def _before() -> None:
    notice()
    guard.acquire()


def _in_parent() -> None:
    guard.release()


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
