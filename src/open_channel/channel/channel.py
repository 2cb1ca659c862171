"""The channel as far as its socket goes: a name, what was said about it, and ``connect()``.

What ``open_channel()`` returns has the bus as well: ``open_channel.bus.channel``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from typing import TYPE_CHECKING, TypeVar, cast

from open_channel.arguments import check_labels, check_timeout
from open_channel.channel.client import Client
from open_channel.channel.conversation import CLOSED_HERE
from open_channel.channel.listener import Listener
from open_channel.errors import ChannelClosed, ChannelForked
from open_channel.io import fork
from open_channel.io.directory import ChannelFiles, check_name, resolve, secure
from open_channel.io.member import Member
from open_channel.live import Live
from open_channel.protocol.limits import Limits
from open_channel.protocol.states import ChannelState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from open_channel.channel.conversation import Peer
    from open_channel.channel.socket import ChannelSocket

__all__ = ["CONNECT_TIMEOUT", "DEFAULT_NAME", "SocketChannel", "name_and_listener"]

_log = logging.getLogger("open_channel")

DEFAULT_NAME = "open-channel"
_L = TypeVar("_L", bound="Callable[..., object]")
CONNECT_TIMEOUT = 5.0
"""Seconds that the first connection may take, unless said otherwise."""


def name_and_listener(
    name: object, listener: _L | None, *, blocking: bool = False
) -> tuple[str, _L | None]:
    """Sort out what ``open_channel()`` was given; see there.

    To call a generator function runs nothing of it; nor does a coroutine function in a thread.
    """
    if callable(name) and listener is None:
        name, listener = DEFAULT_NAME, cast("_L", name)
    if listener is not None and not callable(listener):
        raise TypeError(f"a listener is a function, not a {type(listener).__name__}")
    if inspect.isgeneratorfunction(listener) or inspect.isasyncgenfunction(listener):
        raise TypeError("a listener is no generator function")
    if blocking and inspect.iscoroutinefunction(listener):
        raise TypeError("a listener of the blocking API is a plain function")
    return check_name(name), listener


class SocketChannel(Live):
    """One opened channel, without the bus."""

    def __init__(
        self,
        name: str,
        listener: Listener | None,
        directory: str | os.PathLike[str] | None,
        limits: Limits | None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._listener = listener
        self._directory = None if directory is None else resolve(directory).path
        self._limits = Limits() if limits is None else limits
        if not isinstance(self._limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"limits are a Limits, not a {type(limits).__name__}")
        self._labels = check_labels({} if labels is None else labels)
        self._pid = os.getpid()
        self._member: Member | None = None
        self._client: Client | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Channel {self._name!r} {self.state}>"

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._name

    @property
    def state(self) -> str:
        """``"initiated"``, ``"connecting"``, ``"connected"`` or ``"closed"``, as it is now."""
        state = ChannelState.CLOSED if self._closed else ChannelState.INITIATED
        # No Literal: a checker would take it for unchanged from one look to the next.
        return str((self._client.state if self._client is not None else state).value)

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a host now."""
        return self._client is not None and self._client.state is ChannelState.CONNECTED

    @property
    def peer(self) -> Peer | None:
        """The host of the conversation, while and after there is one; None before."""
        return self._client.peer if self._client is not None else None

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the channel now."""
        return self._client is not None and self._client.hosting

    def connect(self, timeout: float | None = CONNECT_TIMEOUT) -> ChannelSocket:
        """Connect to whoever hosts the channel, and host it here where nobody does.

        Returns the socket at once, in the running event loop; messages can be written to it
        before there is a connection. ``timeout`` bounds the first connection, in seconds: when it
        passes, the channel closes and whatever waits on the socket raises ConnectTimeout; where it
        passes while the loop is blocked, or the process stopped, it begins anew, three times at
        most. None waits for ever. A connection lost later is made again without bound, until the
        socket is closed. Again, it returns the same socket.

        Raises DirectoryInsecure and PathTooLong when the directory cannot be used, ChannelClosed
        when the channel is closed, ChannelForked in a forked child of the process that used it,
        RuntimeError without a running event loop, and ValueError for a timeout below zero.
        """
        self._check_open()
        if self._client is not None:
            self._client.check_open()
            return self._client.socket
        check_timeout(timeout)
        asyncio.get_running_loop()  # before anything is made
        self._client = Client(self._join(), self._listener, timeout)
        return self._client.socket

    def _check_open(self) -> None:
        fork.notice()
        if os.getpid() != self._pid:
            if self._member is not None:
                raise ChannelForked(name=self._name, owner=self._pid)
            self._pid = os.getpid()  # it was not used before the fork: it is this process's
        if self._closed:
            raise ChannelClosed(name=self._name, reason=CLOSED_HERE)

    def _join(self) -> Member:
        """This channel's member; one for all that it does."""
        if self._member is not None:
            return self._member
        resolved = resolve(self._directory)
        files = ChannelFiles.of(resolved.path, self._name)
        secure(resolved.path)
        _log.info("%s: in %s (%s)", self._name, resolved.path, resolved.why)
        self._member = Member(
            files, self._limits, listens=self._listener is not None, labels=self._labels
        )
        return self._member

    async def close(self, timeout: float | None = 5.0) -> None:
        """Close the channel and its socket; see ``ChannelSocket.close()``."""
        self._closed = True
        if self._client is not None:
            await self._client.socket.close(timeout)
