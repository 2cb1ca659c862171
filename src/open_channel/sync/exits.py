"""The channels that are open when their process ends: they are closed then."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from open_channel.errors import ChannelError
from open_channel.sync import portal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from open_channel.sync.channel import Channel
    from open_channel.sync.opened import Opened
    from open_channel.sync.socket import ChannelSocket

    _Parts = tuple[Opened, ChannelSocket | None]

__all__ = ["forget", "leave_open"]

_AT_EXIT = 5.0  # seconds to deliver what was written, for all of them together

_open: dict[Channel, Callable[[], _Parts | None]] = {}
_finalized = 0
"""The child of multiprocessing whose end closes its channels: not the interpreter's."""


def leave_open(channel: Channel, end: Callable[[], _Parts | None]) -> None:
    """Close it at the end of this process, unless it is closed before; again is harmless.

    ``end()`` lets nobody use it any more, and returns what is to be closed.
    """
    global _finalized  # noqa: PLW0603 (one for each process)
    _open[channel] = end
    # A child that multiprocessing has forked runs no ``atexit``, but these; with this priority it
    # joins its own children before. Elsewhere they would run before those are joined whom we serve.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() and _finalized != os.getpid():
        from multiprocessing.util import Finalize

        _finalized = os.getpid()
        Finalize(None, _close_all, exitpriority=-1)


def forget(channel: Channel) -> None:
    """It is closed; again is harmless."""
    _open.pop(channel, None)


@atexit.register
def _close_all() -> None:
    parts = [each for end in list(_open.values()) if (each := end()) is not None]
    if not parts:
        return
    try:
        _run(lambda: _deliver(parts), _AT_EXIT)
    finally:  # a signal handler may raise
        _run(lambda: _leave(parts), 0)


def _run(function: Callable[[], Awaitable[None]], timeout: float) -> None:
    with contextlib.suppress(ChannelError):
        portal.run(function, portal.leaving(timeout), portal.THE_END)


async def _deliver(parts: list[_Parts]) -> None:
    async def deliver(channel: Opened, socket: ChannelSocket | None) -> None:
        if socket is not None:
            await socket.finish_writing()
        await channel.deliver(_AT_EXIT)

    await asyncio.gather(*(deliver(*each) for each in parts), return_exceptions=True)


async def _leave(parts: list[_Parts]) -> None:
    # All in one turn of the loop: none becomes the host of what another one leaves.
    for channel, _ in parts:
        channel.destroy()
    await asyncio.gather(*(channel.leave(0) for channel, _ in parts), return_exceptions=True)
