"""The channels that are open when their process ends: they are closed then."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from open_channel.errors import ChannelError

if TYPE_CHECKING:
    from open_channel.sync.channel import Channel

__all__ = ["forget", "leave_open"]

_AT_EXIT = 5.0  # seconds to deliver what was written; as much as close() takes by itself

_open: set[Channel] = set()
_finalized = 0
"""The child of multiprocessing whose end closes its channels: not the interpreter's."""


def leave_open(channel: Channel) -> None:
    """Close it at the end of this process, unless it is closed before; again is harmless."""
    global _finalized  # noqa: PLW0603 (one for each process)
    _open.add(channel)
    # A child that multiprocessing has forked runs no ``atexit``, but these; with this priority it
    # joins its own children before. Elsewhere they would run before those are joined whom we serve.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() and _finalized != os.getpid():
        from multiprocessing.util import Finalize

        _finalized = os.getpid()
        Finalize(None, _close_all, exitpriority=-1)


def forget(channel: Channel) -> None:
    """It is closed; again is harmless."""
    _open.discard(channel)


@atexit.register
def _close_all() -> None:
    for channel in list(_open):
        with contextlib.suppress(ChannelError):
            channel.leave(_AT_EXIT)
