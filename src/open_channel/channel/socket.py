"""The socket: whole messages in both directions, the same class at both ends of a conversation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from open_channel.channel.waiter import Waiter
from open_channel.errors import ChannelClosed, ChannelError
from open_channel.protocol.states import SendState, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from open_channel.channel.interfaces import SocketOwner
    from open_channel.io.session_io import SessionIO

__all__ = ["ChannelSocket", "Peer"]

_FAIR = 4  # batches written before drain() lets others run: some 256 KiB


class Peer(NamedTuple):
    """The process at the other end of a socket."""

    pid: int
    """Its process id, as the kernel told it."""
    uid: int
    """The user it runs as."""
    member: str
    """The random id of its opened channel: 32 hexadecimal digits."""


class ChannelSocket:
    """One conversation: between a client and the listener of whoever hosts the channel.

    Messages are kept whole and in order. They can be written in every state but closed, and are
    kept until the other side has consumed them. A socket outlives its connections: when the host
    dies the next one's listener gets a new socket, and everything that was not acknowledged.

    On the client's side it comes from ``channel.connect()``; the listener gets the other one.
    """

    __slots__ = (
        "_drain_limit",
        "_drainers",
        "_error",
        "_fair",
        "_inbox",
        "_io",
        "_loop",
        "_messages",
        "_outbox",
        "_owner",
        "_readers",
        "_sink",
        "_unfinished",
    )

    def __init__(self, io: SessionIO, owner: SocketOwner, *, drain: int, hosts: bool) -> None:
        self._io = io
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._inbox = io.session.inbox
        self._messages = self._inbox.messages
        self._outbox = io.session.outbox
        self._drain_limit = drain
        self._fair = _FAIR
        # On the host's side a message is done when the listener comes back, not when it is taken.
        self._unfinished = int(hosts)
        self._readers: list[Waiter] = []
        self._drainers: list[Waiter] = []
        self._sink: Callable[[], None] | None = None
        self._error: ChannelError | None = None
        io.user = self

    def __repr__(self) -> str:
        return f"<ChannelSocket {self._owner.name!r} {self._io.session.state.value}>"

    @property
    def peer(self) -> Peer | None:
        """The process at the other end; None while there is no connection and never was one."""
        return self._owner.peer

    @property
    def redelivered(self) -> bool:
        """Whether an earlier host's listener may have handled the message that was read last.

        True only on the listener's side, only after a takeover.
        """
        return self._inbox.redelivered

    @property
    def at_end(self) -> bool:
        """Whether everything has been read and nothing will follow.

        It tells the end from an empty message, which ``read()`` returns as ``b""`` too.
        """
        return not self._messages and self._is_ended()

    # --- writing ---------------------------------------------------------------------------

    def write(self, message: bytes | bytearray | memoryview) -> None:
        """Write one message; it leaves when this turn of the event loop ends.

        ``message`` is any bytes-like object, up to the channel's ``max_message`` bytes; what is
        mutable is copied. Returns at once, connected or not; ``drain()`` is how to wait for room.

        Raises ChannelClosed when the socket is closed, MessageTooLarge, OutboxFull when more than
        the channel's ``outbox`` bytes are unacknowledged, and TypeError for what is not
        bytes-like; nothing is queued then.
        """
        if type(message) is not bytes:
            message = _snapshot(message)
        if self._error is not None or self._outbox.state is not _WRITING:
            self._raise_closed()
        self._outbox.write(message)
        io = self._io
        if not io.scheduled:
            io.schedule()

    async def drain(self) -> None:
        """Wait while the outbox is over its limit (``drain`` bytes); let others run now and then.

        Raises ChannelClosed when the socket is closed meanwhile. Can be cancelled: what was
        written stays written.
        """
        outbox = self._outbox
        if outbox.batches >= self._fair:
            self._fair = outbox.batches + _FAIR
            await asyncio.sleep(0)
        while outbox.size > self._drain_limit:
            await self._wait(self._drainers)
        if self._error is not None or self._io.session.state is SessionState.CLOSED:
            self._raise_closed()

    async def _acknowledged(self) -> None:
        """Wait until the other side has consumed everything, or never will."""
        while self._outbox.size and self._io.session.state is not SessionState.CLOSED:
            await self._wait(self._drainers)

    # --- reading ---------------------------------------------------------------------------

    async def read(self) -> bytes:
        """The next message; ``b""`` at the end.

        The end comes when either side has closed the socket and what arrived before is read.
        Raises what ended the channel when that was an error (ConnectTimeout, Refused, ...). Can be
        cancelled: no message is lost by it. Several tasks may read; each message goes to one.
        """
        messages = self._messages
        while not messages:
            if self._came_back():
                return b""
            await self._wait(self._readers)
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
            if self._came_back():
                raise StopAsyncIteration
            await self._wait(self._readers)
        if not self._io.scheduled:
            self._io.schedule()
        self._inbox.in_hand = self._unfinished
        return messages.popleft()

    def _came_back(self) -> bool:
        """The reader finds nothing to take: what it had is done. Returns whether this is the end."""
        self._inbox.in_hand = 0
        if not self._io.scheduled:
            self._io.schedule()
        if not self._is_ended():
            return False
        self._inbox.end_waits = 0
        if self._error is not None and not isinstance(self._error, ChannelClosed):
            raise self._error
        return True

    def _is_ended(self) -> bool:
        return self._inbox.ended or self._io.session.state is SessionState.CLOSED

    def _wait(self, waiters: list[Waiter]) -> Waiter:
        waiter = Waiter(self._loop)
        waiters.append(waiter)
        return waiter

    def readable(self) -> None:
        """See ``SessionUser``."""
        if self._readers:
            _wake(self._readers)
        if self._sink is not None:
            self._sink()

    def progressed(self) -> None:
        """See ``SessionUser``."""
        if self._drainers:
            _wake(self._drainers)

    # --- the end ---------------------------------------------------------------------------

    async def wait_connected(self) -> None:
        """Wait until there is a connection; returns at once on the listener's side.

        Raises ConnectTimeout when the timeout given to ``connect()`` passes first, what the host
        refused, or ChannelClosed. Can be cancelled: the socket goes on connecting.
        """
        await self._owner.wait_connected()

    async def close(self, timeout: float = 5.0) -> None:
        """Close the socket: write what is queued, wait until it is consumed, then close.

        ``timeout`` bounds the wait, in seconds; what is not acknowledged then is lost. On the
        client's side the channel is closed too, and if this process hosts it, another takes over
        in order. Again is harmless. When it is cancelled the socket is destroyed.
        """
        try:
            if self._outbox.state is _WRITING and self._io.session.state is not SessionState.CLOSED:
                self._outbox.finish()
                self._io.flush()
            never = self._io.session.state is SessionState.NEW and not self._outbox.batches
            if not never:
                async with asyncio.timeout(timeout):
                    await self._acknowledged()
        except TimeoutError:
            pass
        finally:
            self._owner.shut("closed by this side")
        await self._owner.closed()

    def destroy(self) -> None:
        """Close the socket at once, and on the client's side the channel; again is harmless.

        What was not yet acknowledged may be lost.
        """
        self._owner.shut("destroyed by this side")

    async def __aenter__(self) -> ChannelSocket:
        """Wait until there is a connection."""
        await self.wait_connected()
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

    def _fail(self, error: ChannelError) -> None:
        """No more: every use from now on raises ``error``."""
        if self._error is None:
            self._error = error

    def _raise_closed(self) -> None:
        if self._error is not None:
            raise self._error
        raise ChannelClosed(name=self._owner.name, reason="closed by this side")


_WRITING = SendState.WRITING


def _wake(waiters: list[Waiter]) -> None:
    woken = waiters[:]
    waiters.clear()  # first: who is woken may wait again at once
    for waiter in woken:
        waiter.wake()


def _snapshot(message: object) -> bytes:
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    try:
        return memoryview(message).tobytes()  # type: ignore[arg-type]
    except TypeError:
        kind = type(message).__name__
        raise TypeError(f"a message is bytes-like, not {kind}") from None
