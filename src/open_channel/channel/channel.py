"""The channel: a name, this process's member of it, and the socket to whoever hosts it."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, TypeVar, cast, overload

from open_channel.channel.conversation import Peer
from open_channel.channel.listener import SERVICE, Listener, ListenerHost
from open_channel.channel.socket import ChannelSocket
from open_channel.errors import ChannelClosed, ChannelError, ChannelForked
from open_channel.io import fork
from open_channel.io.directory import ChannelFiles, check_name, resolve, secure
from open_channel.io.link import Link
from open_channel.io.member import Member
from open_channel.protocol.limits import Limits
from open_channel.protocol.states import CHANNEL, ChannelEvent, ChannelState, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.protocol.control import Welcome

__all__ = ["DEFAULT_NAME", "Channel", "name_and_listener", "open_channel"]

_log = logging.getLogger("open_channel")

DEFAULT_NAME = "open-channel"
_L = TypeVar("_L", bound="Callable[..., object]")
_TIMEOUT = 5.0


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

    ``name`` is shared by all processes that talk over this channel: any printable text up to 4096
    bytes of UTF-8. ``listener`` is called with a ``ChannelSocket`` for each client while this
    process hosts the channel; a process without one connects to others and never hosts.
    ``open_channel(listener)`` uses the default name.

    ``directory`` is where the channel's files live; None means ``$OPEN_CHANNEL_DIR``, else the
    user's runtime directory, else one in ``/tmp``. ``limits`` bounds sizes and times; None means
    the defaults of ``Limits``.

    Raises NameInvalid for a name that cannot be used, and TypeError for a listener that cannot be
    called.
    """
    name, listener = name_and_listener(name, listener)
    return Channel(name, listener, directory, limits or Limits())


def name_and_listener(name: object, listener: _L | None) -> tuple[str, _L | None]:
    """Sort out what ``open_channel()`` was given; see there."""
    if callable(name) and listener is None:
        return DEFAULT_NAME, cast("_L", name)
    if listener is not None and not callable(listener):
        raise TypeError(f"a listener is a function, not a {type(listener).__name__}")
    return check_name(name), listener


class Channel:
    """One opened channel; made by ``open_channel()``."""

    def __init__(
        self,
        name: str,
        listener: Listener | None,
        directory: str | os.PathLike[str] | None,
        limits: Limits,
    ) -> None:
        self._name = name
        self._listener = listener
        self._directory = directory
        self._limits = limits
        self._state = ChannelState.INITIATED
        self._pid = os.getpid()
        self._member: Member | None = None
        self._host: ListenerHost | None = None
        self._link: Link | None = None
        self._socket: ChannelSocket | None = None
        self._peer: Peer | None = None
        self._error: ChannelError | None = None
        self._changed: list[asyncio.Future[None]] = []
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Channel {self._name!r} {self.state}>"

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._name

    @property
    def state(self) -> str:
        """``"initiated"``, ``"connecting"``, ``"connected"`` or ``"closed"``, as it is now."""
        return self._state.value

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a host now."""
        return self._state is ChannelState.CONNECTED

    @property
    def peer(self) -> Peer | None:
        """The host, while and after there is a connection; None before the first."""
        return self._peer

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the channel now."""
        return self._host is not None and self._host.hosting

    def connect(self, timeout: float | None = _TIMEOUT) -> ChannelSocket:
        """Connect to whoever hosts the channel, and host it here where nobody does.

        Returns the socket at once, in the running event loop; messages can be written to it
        before there is a connection. ``timeout`` bounds the first connection, in seconds: when it
        passes, the channel closes and whatever waits on the socket raises ConnectTimeout. None
        waits for ever. A connection lost later is made again without bound, until the socket is
        closed. Again, it returns the same socket.

        Raises DirectoryInsecure and PathTooLong when the directory cannot be used, ChannelClosed
        when the channel is closed, ChannelForked in a forked child of the process that opened it,
        RuntimeError without a running event loop, and ValueError for a timeout below zero.
        """
        self._check_process()
        if self._state is ChannelState.CLOSED:
            raise self._error or ChannelClosed(name=self._name, reason="closed by this side")
        if self._socket is not None:
            return self._socket
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"a timeout is a number of seconds from 0 on, or None, not {timeout}")
        asyncio.get_running_loop()
        member = self._member = self._join()
        if self._listener is not None:
            self._host = ListenerHost(member, self._listener)
        self._link = Link(member, SERVICE, self, self._host, timeout)
        self._socket = ChannelSocket(self._link.io, self, hosts=False)
        self._step(ChannelEvent.CONNECT)
        fork.watch(self)
        self._link.start()
        return self._socket

    def _join(self) -> Member:
        resolved = resolve(self._directory)
        files = ChannelFiles.of(resolved.path, self._name)
        secure(resolved.path)
        _log.info("%s: in %s (%s)", self._name, resolved.path, resolved.why)
        return Member(files, self._limits, listens=self._listener is not None)

    def _check_process(self) -> None:
        if isinstance(self._error, ChannelForked):
            raise self._error
        if os.getpid() != self._pid:
            raise ChannelForked(name=self._name, owner=self._pid)

    def _step(self, event: ChannelEvent) -> None:
        self._state = step(CHANNEL, self._state, event)
        changed, self._changed = self._changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)

    # --- what the link tells ---------------------------------------------------------------

    def link_connected(self, welcome: Welcome, uid: int) -> None:
        """See ``LinkOwner``."""
        self._peer = Peer(welcome.pid, uid, welcome.member.hex())
        self._step(ChannelEvent.WELCOMED)

    def link_lost(self, reason: str) -> None:
        """See ``LinkOwner``."""
        self._step(ChannelEvent.LOST)

    def link_ended(self, error: ChannelError | None) -> None:
        """See ``LinkOwner``."""
        if error is not None:
            _log.debug("%s: %s", self._name, error)
        by_us = self._socket is not None and self._socket.closed
        reason = "closed by this side" if by_us else "closed by the listener"
        self._finish(error or ChannelClosed(name=self._name, reason=reason))

    # --- what the socket asks --------------------------------------------------------------

    async def wait_connected(self) -> None:
        """See ``ChannelSocket.wait_connected()``."""
        while self._state is ChannelState.CONNECTING:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.append(future)
            await future
        self._check_process()
        if self._state is ChannelState.CLOSED:
            raise self._error or ChannelClosed(name=self._name, reason="closed by this side")

    def shut(self, reason: str) -> None:
        """See ``SocketOwner``."""
        self._finish(ChannelClosed(name=self._name, reason=reason))
        if self._link is not None:
            self._link.close()

    def _finish(self, error: ChannelError) -> None:
        if self._state is ChannelState.CLOSED:
            return
        self._error = error
        if self._socket is not None:
            self._socket.fail(error)
        self._step(ChannelEvent.CLOSED)
        if self._member is not None:
            self._closing = asyncio.get_running_loop().create_task(self._leave(self._member))

    async def _leave(self, member: Member) -> None:
        try:
            if self._host is not None:
                await self._host.hand_over()
        finally:
            member.presence.leave()
            fork.unwatch(self)

    async def wait_closed(self) -> None:
        """Wait until the channel has left: its hosting, if any, is handed over by then."""
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def close(self, timeout: float = 5.0) -> None:
        """Close the channel and its socket; see ``ChannelSocket.close()``."""
        if self._socket is not None:
            await self._socket.close(timeout)
        else:
            self.shut("closed by this side")

    def forked(self) -> None:
        """In a child: see ``io.fork``."""
        self._error = ChannelForked(name=self._name, owner=self._pid)
        if self._socket is not None:
            self._socket.fail(self._error)
