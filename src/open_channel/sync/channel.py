"""The blocking channel: opens the asyncio one in the background thread, again in every child."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, overload

from open_channel.bus.channel import Channel as AsyncChannel
from open_channel.bus.channel import open_channel as open_async
from open_channel.channel.channel import DEFAULT_NAME, name_and_listener
from open_channel.channel.conversation import Peer
from open_channel.channel.socket import ChannelSocket as AsyncSocket
from open_channel.errors import ChannelError
from open_channel.protocol.limits import Limits
from open_channel.sync import portal
from open_channel.sync.socket import ChannelSocket

__all__ = ["Channel", "Listener", "open_channel"]

Listener = Callable[[ChannelSocket], object]
"""Gets a socket for each client, in a thread of its own; its return closes the socket."""

_AT_EXIT = 1.0  # seconds that a channel left open gets to deliver what was written


@overload
def open_channel(
    name: Listener,
    /,
    *,
    directory: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> Channel: ...
@overload
def open_channel(
    name: str = DEFAULT_NAME,
    listener: Listener | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> Channel: ...
def open_channel(
    name: str | Listener = DEFAULT_NAME,
    listener: Listener | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> Channel:
    """Open a channel by name; nothing starts before its ``connect()``.

    The parameters are those of ``open_channel.open_channel()``, but that ``listener(socket)`` is a
    plain function: it runs in a thread of its own for each client, with a blocking socket.

    Raises NameInvalid and TypeError as it does.
    """
    name, listener = name_and_listener(name, listener)
    return Channel(name, listener, directory, limits)


class Channel:
    """One opened channel; made by ``open_channel()``."""

    def __init__(
        self,
        name: str,
        listener: Listener | None,
        directory: str | os.PathLike[str] | None,
        limits: Limits | None,
    ) -> None:
        self._listener = None if listener is None else _in_thread(listener)
        self._directory = directory
        self._limits = limits
        self._timeout: float | None = None
        self._socket: ChannelSocket | None = None
        self._closed = False
        self._open_async(name)

    def _open_async(self, name: str) -> None:
        self._pid = os.getpid()
        self._inner = open_async(
            name, self._listener, directory=self._directory, limits=self._limits
        )

    @property
    def _channel(self) -> AsyncChannel:
        """The asyncio channel; in a forked child a new one."""
        if self._pid != os.getpid() and not self._closed:
            self._open_async(self._inner.name)
        return self._inner

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._inner.name

    @property
    def state(self) -> str:
        """``"initiated"``, ``"connecting"``, ``"connected"`` or ``"closed"``, as it is now."""
        return self._channel.state

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a host now."""
        return self._channel.connected

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the channel now."""
        return self._channel.hosting

    @property
    def peer(self) -> Peer | None:
        """The host, while and after there is a connection; None before the first."""
        return self._channel.peer

    def connect(self, timeout: float | None = 5.0) -> ChannelSocket:
        """Connect to whoever hosts the channel, and host it here where nobody does.

        See ``open_channel.Channel.connect()``. In a forked child the channel and its socket
        connect again, as a new member, with their next use.
        """
        if self._socket is None:
            self._timeout = timeout
            opened = self._connect()
            self._socket = portal.call(lambda: ChannelSocket(opened, self._connect))
            _open.add(self)
        elif self._closed or self.state == "closed":
            self._connect()  # which says why not
        return self._socket

    def _connect(self) -> AsyncSocket:
        return portal.call(lambda: self._channel.connect(self._timeout))

    def close(self, timeout: float = 5.0) -> None:
        """Close the channel and its socket; see ``ChannelSocket.close()``."""
        _open.discard(self)
        self._closed = True
        if self._pid != os.getpid():  # a forked child that never used it
            return
        if self._socket is not None:
            self._socket.close(timeout)
        portal.run(self._inner.close(timeout), timeout + portal.LEAVING, "the end of the channel")


def _in_thread(listener: Listener) -> Callable[[AsyncSocket], Coroutine[Any, Any, None]]:
    """The listener as the asyncio API takes it: awaits a thread that runs it."""

    async def listen(opened: AsyncSocket) -> None:
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        socket = ChannelSocket(opened, None)

        def work() -> None:
            error: BaseException | None = None
            try:
                listener(socket)
            except BaseException as raised:  # whatever a user's listener raises
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is gone: the process ends
                loop.call_soon_threadsafe(_finish, finished, error)

        threading.Thread(target=work, name=f"{opened!r}", daemon=True).start()
        try:
            await finished
        finally:
            socket.finish_writing()

    return listen


def _finish(finished: asyncio.Future[None], error: BaseException | None) -> None:
    if finished.done():
        return
    if error is None:
        finished.set_result(None)
    elif isinstance(error, Exception):
        finished.set_exception(error)
    else:
        finished.set_exception(ChannelError(reason=f"the listener ended with {error!r}"))


_open: set[Channel] = set()


@atexit.register
def _close_all() -> None:
    for channel in list(_open):
        with contextlib.suppress(ChannelError):
            channel.close(_AT_EXIT)
