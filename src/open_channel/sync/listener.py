"""A blocking listener as the asyncio channel takes it: a thread for each client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from open_channel.errors import ChannelError
from open_channel.sync.socket import ChannelSocket

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from open_channel.channel.socket import ChannelSocket as AsyncSocket

__all__ = ["Listener", "in_thread"]

Listener = Callable[[ChannelSocket], object]
"""Gets a socket for each client, in a thread of its own; its return closes the socket."""


def in_thread(listener: Listener) -> Callable[[AsyncSocket], Coroutine[Any, Any, None]]:
    """The listener as the asyncio API takes it: awaits a thread that runs it."""

    async def listen(opened: AsyncSocket) -> None:
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        socket = ChannelSocket(opened)

        def work() -> None:
            error: BaseException | None = None
            try:
                listener(socket)
            except BaseException as raised:  # whatever a user's listener raises
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is gone: the process ends
                loop.call_soon_threadsafe(_finish, finished, error)

        try:
            threading.Thread(target=work, name=f"{opened!r}", daemon=True).start()
        except RuntimeError:
            if threading.main_thread().is_alive():  # too many threads
                raise
            # Python 3.12.1 starts none from the end of the main thread on. The channel is closed
            # soon, and whoever hosts then has a listener for this client.
            await _the_end(opened)
            return
        try:
            await finished
        finally:
            await socket.finish_writing()

    return listen


async def _the_end(opened: AsyncSocket) -> None:
    changed = asyncio.Event()
    opened.on_change = changed.set
    while not opened.at_end:
        changed.clear()
        await changed.wait()


def _finish(finished: asyncio.Future[None], error: BaseException | None) -> None:
    if finished.done():
        return
    if error is None:
        finished.set_result(None)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        finished.set_exception(error)
    else:  # no future takes these
        failure = ChannelError(reason=f"the listener ended with {error!r}")
        failure.__cause__ = error
        finished.set_exception(failure)
