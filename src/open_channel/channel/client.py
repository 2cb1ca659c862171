"""The client's side: one member's conversation with whoever hosts the channel, and its hosting.

It owns what a connected channel has: the link, the socket, and the host that this process becomes
when it is elected; it keeps the state that ``channel.state`` shows, and leaves in order.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from open_channel.channel.conversation import CLOSED_HERE, Peer
from open_channel.channel.listener import SERVICE, Listener, ListenerHost
from open_channel.channel.socket import ChannelSocket
from open_channel.errors import ChannelClosed, ChannelError, ChannelForked
from open_channel.io import fork
from open_channel.io.link import LOOP_ENDED, Link
from open_channel.protocol.states import CHANNEL, ChannelEvent, ChannelState, step

if TYPE_CHECKING:
    from open_channel.io.member import Member
    from open_channel.protocol.control import Welcome

__all__ = ["Client"]


class Client:
    """A connected channel: the owner of its link and of its socket."""

    def __init__(self, member: Member, listener: Listener | None, timeout: float | None) -> None:
        self._member = member
        self._pid = os.getpid()
        self._host = ListenerHost(member, listener) if listener is not None else None
        self._link = Link(member, SERVICE, self, self._host, timeout)
        self._error: ChannelError | None = None
        self._changed: list[asyncio.Future[None]] = []
        self._leaving: asyncio.Task[None] | None = None
        self.socket = ChannelSocket(self._link.io, self, hosts=False)
        self.peer: Peer | None = None
        self.state = step(CHANNEL, ChannelState.INITIATED, ChannelEvent.CONNECT)
        fork.watch(self)
        member.join()
        self._link.start()

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._member.files.name

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the channel now."""
        return self._host is not None and self._host.hosting

    def check_open(self) -> None:
        """Raise what closed the channel, if it is closed."""
        if self._error is not None:
            raise self._error.again()

    def _step(self, event: ChannelEvent) -> None:
        self.state = step(CHANNEL, self.state, event)
        changed, self._changed = self._changed, []
        for future in changed:
            if not future.done():
                future.set_result(None)

    # --- what the link tells ---------------------------------------------------------------

    def link_connected(self, welcome: Welcome, uid: int) -> None:
        """See ``LinkOwner``."""
        self.peer = Peer(welcome.pid, uid, welcome.member.hex())
        self._step(ChannelEvent.WELCOMED)

    def link_lost(self, reason: str) -> None:
        """See ``LinkOwner``."""
        self._step(ChannelEvent.LOST)

    def link_ended(self, error: ChannelError | None) -> None:
        """See ``LinkOwner``."""
        reason = CLOSED_HERE if self.socket.closed else "closed by the listener"
        self._finish(error or ChannelClosed(name=self.name, reason=reason))

    def link_cancelled(self) -> None:
        """See ``LinkOwner``."""
        if self._error is None:  # else this is a forked child, and all belongs to the parent
            self._fail(ChannelClosed(name=self.name, reason=LOOP_ENDED))
            self._let_go()

    # --- what the socket asks --------------------------------------------------------------

    async def wait_connected(self) -> None:
        """See ``SocketOwner``."""
        while self.state is ChannelState.CONNECTING and self._error is None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._changed.append(future)
            await future
        self.check_open()

    def shut(self, error: ChannelError) -> None:
        """See ``SocketOwner``."""
        if isinstance(self._error, ChannelForked):
            return  # the link is the parent's
        self._finish(error)
        self._link.close()

    def _finish(self, error: ChannelError) -> None:
        if self._error is None:
            self._fail(error)
            self._leaving = asyncio.get_running_loop().create_task(self._leave())
            # Whatever becomes of the task: it may be cancelled before it begins.
            self._leaving.add_done_callback(self._let_go)

    def _fail(self, error: ChannelError) -> None:
        self._error = error
        self.socket.fail(error)
        self._step(ChannelEvent.CLOSED)

    async def _leave(self) -> None:
        if self._host is not None:
            await self._host.hand_over()

    def _let_go(self, _: object = None) -> None:
        if self._host is not None:
            self._host.step_down(LOOP_ENDED)  # unless it is handed over
        self._member.leave()
        fork.unwatch(self)

    async def wait_closed(self) -> None:
        """See ``SocketOwner``: a hosting, if there was one, is handed over by then."""
        if self._leaving is not None:
            await asyncio.wait([self._leaving])
            if not self._leaving.cancelled():  # by the end of the loop; the channel is left then
                self._leaving.result()

    def forked(self) -> None:
        """In a child: see ``io.fork``."""
        self._error = ChannelForked(name=self.name, owner=self._pid)
        self.state = ChannelState.CLOSED
        self.socket.forked(self._error)
