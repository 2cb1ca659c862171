"""The asyncio socket: whole messages both ways, the same class at both ends of a conversation."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from open_channel.arguments import check_timeout
from open_channel.channel.conversation import CLOSED_HERE, Conversation
from open_channel.channel.waiter import Waiters
from open_channel.errors import ChannelClosed
from open_channel.protocol.states import SendState, SessionState

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any

    from open_channel.channel.interfaces import SocketOwner
    from open_channel.io.session_io import SessionIO

__all__ = ["ChannelSocket"]

_log = logging.getLogger("open_channel")

_FAIR = 4  # batches written before drain() lets others run: some 256 KiB


class ChannelSocket(Conversation):
    """One conversation: between a client and the listener of whoever hosts the channel.

    Messages are kept whole and in order. They can be written in every state but closed, and are
    kept until the other side has consumed them. A socket outlives its connections: when the host
    dies the next one's listener gets a new socket, and everything that was not acknowledged.

    On the client's side it comes from ``channel.connect()``; the listener gets the other one.
    """

    __slots__ = ("__weakref__", "_drainers", "_fair", "_loop", "_readers", "_socket_owner")

    def __init__(self, io: SessionIO, owner: SocketOwner, *, hosts: bool) -> None:
        super().__init__(io, owner, hosts=hosts)
        self._socket_owner = owner
        self._loop = asyncio.get_running_loop()
        self._fair = _FAIR
        self._readers = Waiters()
        self._drainers = Waiters()

    async def drain(self) -> None:
        """Wait while the outbox is over its limit (``drain`` bytes); let others run now and then.

        Raises ChannelClosed when the socket is closed meanwhile. Can be cancelled: what was
        written stays written.
        """
        outbox = self._outbox
        if outbox.credit:
            return
        if outbox.batches >= self._fair:
            self._fair = outbox.batches + _FAIR
            await asyncio.sleep(0)
        while outbox.over and self._error is None:
            await self._drainers.wait(self._loop)
        if self._error is not None:
            raise self._error.again()

    async def read(self) -> bytes:
        """The next message; ``b""`` at the end.

        The end comes when either side has closed the socket and what arrived before is read.
        Raises what ended the channel when that was an error (ConnectTimeout, Refused, ...). Can be
        cancelled: no message is lost by it. Several tasks may read; each message goes to one.
        """
        messages = self._messages
        while not messages:
            if (more := self._wait_for_more()) is None:
                return b""
            await more
        if not self._io.scheduled:
            self._io.schedule()
        self._inbox.in_hand = self._unfinished
        return messages.popleft()

    def __aiter__(self) -> ChannelSocket:
        """Iterate over the messages until the end."""
        return self

    async def __anext__(self) -> bytes:
        """The next message; see ``read()``."""
        messages = self._messages
        while not messages:
            if (more := self._wait_for_more()) is None:
                raise StopAsyncIteration
            await more
        # As in read(): one call less for each message is worth more than not writing it twice.
        if not self._io.scheduled:
            self._io.schedule()
        self._inbox.in_hand = self._unfinished
        return messages.popleft()

    def _wait_for_more(self) -> Coroutine[Any, Any, None] | None:
        """What to await before there may be a message; None at the end."""
        self._inbox.in_hand = 0
        if self._inbox.ended:
            self.take()  # notes that the end was seen, and raises what ended it
            return None
        if not self._io.scheduled:
            self._io.schedule()
        return self._readers.wait(self._loop)

    def received(self, *, arrived: bool, acknowledged: bool) -> None:
        """See ``SessionUser``."""
        # Each time but the last, many of them would be woken to wait again.
        if acknowledged and self._drainers.waiting and not self._outbox.over:
            self._drainers.wake()
        if arrived and self._readers.waiting:
            self._readers.wake(now=True)
        if self.on_change is not None:
            self.on_change()

    def over(self) -> None:
        """See ``SessionUser``."""
        self._drainers.wake()
        self._readers.wake()
        super().over()

    async def wait_connected(self) -> None:
        """Wait until there is a connection; returns at once on the listener's side.

        Raises ConnectTimeout when the timeout given to ``connect()`` passes first, what the host
        refused, or ChannelClosed. Can be cancelled: the socket goes on connecting.
        """
        await self._socket_owner.wait_connected()

    async def close(self, timeout: float | None = 5.0) -> None:
        """Close the socket: write what is queued, wait until it is consumed, then close.

        ``timeout`` bounds the wait, in seconds; None waits for ever. What is not acknowledged then
        is lost. On the client's side the channel is closed too, and if this process hosts it,
        another takes over in order. In the channel's own listener that waits in vain for the
        message in hand, and the listener is cancelled 2 s later: let another task close it. Again
        is harmless. When it is cancelled the socket is destroyed. Raises ValueError for a timeout
        below zero.
        """
        check_timeout(timeout)
        try:
            if self._error is None:
                async with asyncio.timeout(timeout):
                    await self._flush()
        except TimeoutError:
            _log.info("%s: closed with %d bytes not acknowledged", self.name, self._outbox.backlog)
        finally:
            self.shut(ChannelClosed(name=self.name, reason=CLOSED_HERE))
        await self._socket_owner.wait_closed()

    async def _flush(self) -> None:
        """Wait until the other side has consumed everything, or never will."""
        session, outbox = self._io.session, self._outbox
        if session.state is SessionState.CLOSED:
            return
        if session.state is not SessionState.OPEN and outbox.empty:
            return  # nobody is there, and nothing has to be heard
        if outbox.state is SendState.WRITING and not self.goes_on():
            outbox.finish()
            if self._unfinished:
                # A listener's end leaves with this turn of the loop: when the loop ends, all tasks
                # are cancelled in one, and its host has stepped down before the turn is over.
                self._io.schedule()
            else:
                self._io.flush()
        while not outbox.delivered and self._io.session.state is not SessionState.CLOSED:
            await self._drainers.wait(self._loop)

    def destroy(self) -> None:
        """Close the socket at once, and on the client's side the channel; again is harmless.

        What was not yet acknowledged may be lost.
        """
        self.shut(ChannelClosed(name=self.name, reason="destroyed by this side"))

    async def __aenter__(self) -> ChannelSocket:
        """Wait until there is a connection; when that fails or is cancelled, destroy the socket."""
        try:
            await self.wait_connected()
        except BaseException:  # nobody else would close it
            self.destroy()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; at once when the block failed."""
        if kind is None:
            await self.close()
        else:
            self.destroy()
