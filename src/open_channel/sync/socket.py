"""The blocking socket: one conversation, for threads.

The messages stay where the asyncio socket has them. A reading thread takes them out of its inbox
(``deque`` operations are atomic), and a writing thread leaves its messages in a queue that the
loop moves into the outbox. Either tells the loop once, however many messages there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING

from open_channel.channel.conversation import CLOSED_HERE, as_bytes
from open_channel.errors import (
    ChannelClosed,
    ChannelError,
    MessageTooLarge,
    OutboxFull,
    WaitTimeout,
)
from open_channel.io import fork
from open_channel.io.background import background_loop
from open_channel.live import Live
from open_channel.protocol.batches import OVERHEAD
from open_channel.sync import portal
from open_channel.sync.bell import Bell, Errand, Guard

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from open_channel.channel.conversation import Peer
    from open_channel.channel.socket import ChannelSocket as AsyncSocket

__all__ = ["ChannelSocket"]


class ChannelSocket(Live):
    """One conversation: between a client and the listener of whoever hosts the channel.

    See ``open_channel.ChannelSocket`` for what it promises. Every method can be called from any
    thread; each blocking one takes a timeout in seconds, where None waits for ever.
    """

    def __init__(
        self,
        opened: AsyncSocket,
        reopen: Callable[[], AsyncSocket] | None = None,
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        self._reopen = reopen
        self._on_closed = on_closed
        self._closed = False
        self._attach(opened)

    def _attach(self, opened: AsyncSocket) -> None:
        """Serve this asyncio socket; called in the loop."""
        self._socket = opened
        self._pid = os.getpid()
        self._loop = background_loop()
        self._bell = Bell()
        self._errand = Errand(self._loop, self._move)  # to move something, or to acknowledge
        self._guard = Guard(self._loop, self._move)
        self._movers: list[asyncio.Future[None]] = []  # who waits for all to be moved
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes in the queue, counted as in the outbox
        self._in_hand = 0  # messages taken, of which the reader has not come back
        opened.on_change = self._change

    def _open(self) -> AsyncSocket:
        """The asyncio socket; in a forked child a new one, with its first use there."""
        if self._pid != os.getpid() and self._reopen is not None:
            fork.notice()
            if self._closed:
                raise ChannelClosed(name=self._socket.name, reason=CLOSED_HERE)
            opened = self._reopen()
            portal.call(lambda: self._attach_again(opened))
        return self._socket

    def _attach_again(self, opened: AsyncSocket) -> None:
        if self._pid != os.getpid():  # else another thread was faster
            self._attach(opened)

    def __repr__(self) -> str:
        return f"<sync {self._socket!r}>"

    # --- in the loop -----------------------------------------------------------------------

    def _change(self) -> None:
        self._bell.ring()
        if self._queue:
            self._errand.ask()

    def _move(self) -> bool:
        """Move what was written into the outbox, and let what was read be acknowledged.

        In this order, and with nothing in between: what is acknowledged has its answers with it.
        False when a thread is in between; this is called again then.
        """
        socket = self._socket
        self._errand.told = False
        if not self._guard.take():
            return False
        failure: ChannelError | None = None
        try:
            while self._queue:
                socket.write(self._queue[0])
                self._queued -= len(self._queue.popleft()) + OVERHEAD
        except OutboxFull:
            pass  # the rest stays in the queue until something is acknowledged
        except ChannelError as error:
            failure = error
            self._queue.clear()
            self._queued = 0
        finally:
            if not self._queue:
                self._queued = 0  # where a signal handler has raised it may be a little off
                socket.settle(self._in_hand)
            self._guard.leave()
        if failure is not None:
            socket.shut(failure)  # every use in a thread raises it from now on
        socket.flush_soon()
        movers, self._movers = self._movers, []
        for mover in movers:
            if not mover.done():
                mover.set_result(None)
        return True

    # --- writing ---------------------------------------------------------------------------

    def write(self, message: bytes | bytearray | memoryview, timeout: float | None = None) -> None:
        """Write one message, connected or not; wait for room when too much is unacknowledged.

        ``timeout`` bounds the wait for room. Raises WaitTimeout when it passes first (nothing is
        queued then), ChannelClosed, MessageTooLarge, and TypeError for what is not bytes-like.
        """
        data = as_bytes(message)
        socket = self._open()
        if len(data) > socket.max_message:
            raise MessageTooLarge(size=len(data), limit=socket.max_message)
        if not self._write(data):
            self._wait_for_room(lambda: self._write(data) or None, timeout)

    def _write(self, data: bytes) -> bool:
        """Whether there was room for it."""
        socket = self._socket
        try:
            with self._guard.lock:
                if socket.backlog + self._queued > socket.drain_limit and not socket.closed:
                    return False
                socket.check_open()
                self._queue.append(data)
                self._queued += len(data) + OVERHEAD
            self._errand.ask()  # not with the guard: the loop, once woken, would find it taken
        except BaseException:  # a signal handler's: it may have been written
            self._errand.again()
            raise
        return True

    def drain(self, timeout: float | None = None) -> None:
        """Wait while the outbox is over its limit; ``write()`` does so by itself.

        Raises WaitTimeout and ChannelClosed.
        """
        socket = self._open()

        def look() -> bool | None:
            return socket.backlog + self._queued <= socket.drain_limit or socket.closed or None

        self._wait_for_room(look, timeout)
        socket.check_open()

    def _wait_for_room(self, look: Callable[[], bool | None], timeout: float | None) -> None:
        if not self._bell.wait_for(look, portal.bound(timeout)):
            raise WaitTimeout(what="room in the outbox", timeout=timeout)

    # --- reading ---------------------------------------------------------------------------

    def read(self, timeout: float | None = None) -> bytes:
        """The next message; ``b""`` at the end (``at_end`` tells it from an empty message).

        Raises WaitTimeout when ``timeout`` seconds pass first, and what ended the channel when
        that was an error. Several threads may read; each message goes to one.
        """
        message = self._next(timeout)
        return b"" if message is None else message

    def _next(self, timeout: float | None) -> bytes | None:
        self._open()
        timeout = portal.bound(timeout)
        found = self._look()
        self._errand.ask()  # of what was taken now, or before
        if found is None:
            found = self._bell.wait_for(self._look, timeout)
            if found is None:
                raise WaitTimeout(what="a message", timeout=timeout)
            self._errand.ask()
        return found[0]

    def _look(self) -> tuple[bytes | None] | None:
        """The next message, or None at the end; None for neither."""
        socket = self._socket
        with self._guard.lock:
            self._in_hand = 0
            message = socket.take()
            self._in_hand = int(message is not None)
            ended = message is None and socket.at_end
        return (message,) if ended or message is not None else None

    def __iter__(self) -> ChannelSocket:
        """Iterate over the messages until the end."""
        return self

    def __next__(self) -> bytes:
        """The next message; see ``read()``."""
        message = self._next(None)
        if message is None:
            raise StopIteration
        return message

    # --- what is known ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._socket.name

    @property
    def peer(self) -> Peer | None:
        """The process at the other end; None while there is no connection and never was one."""
        return self._open().peer

    @property
    def redelivered(self) -> bool:
        """Whether an earlier host's listener may have handled the message that was read last."""
        return self._open().redelivered

    @property
    def at_end(self) -> bool:
        """Whether everything has been read and nothing will follow."""
        return self._open().at_end

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closed or self._open().closed

    @property
    def backlog(self) -> int:
        """The bytes written and not acknowledged."""
        socket = self._open()
        with self._guard.lock:  # or what is on its way into the outbox would count twice
            return socket.backlog + self._queued

    @property
    def drain_limit(self) -> int:
        """The backlog above which ``write()`` waits."""
        return self._open().drain_limit

    @property
    def max_message(self) -> int:
        """The largest message that can be written, in bytes."""
        return self._open().max_message

    # --- the end ---------------------------------------------------------------------------

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until there is a connection.

        Raises ConnectTimeout when the timeout given to ``connect()`` passes first, WaitTimeout
        when this one does, what the host refused, or ChannelClosed.
        """
        portal.run(self._open().wait_connected, timeout, "a connection")

    def close(self, timeout: float | None = 5.0) -> None:
        """Close: write what is queued, wait until it is consumed, then close; again is harmless.

        ``timeout`` bounds the wait; None waits for ever. What is not acknowledged then is lost. On
        the client's side the channel is closed too, and if this process hosts it, another takes
        over in order. In the channel's own listener it waits in vain for the message in hand, and
        2 s more for the listener: let another thread close it.
        """
        self._close(portal.bound(timeout))

    @portal.closes
    def _close(self, timeout: float | None) -> None:
        socket = self._socket
        self._closed = True
        if self._pid != os.getpid() or portal.frozen():  # a forked child that never used it
            return

        # Here, and not in the loop, which may not get the guard: this may be a signal handler.
        with self._guard.lock:
            rest, self._queue = self._queue, deque()
            self._queued = 0

        async def close() -> None:
            with contextlib.suppress(ChannelError):
                for message in rest:
                    socket.write(message)
            self._move()
            await socket.close(timeout)

        portal.run(close, portal.leaving(timeout), portal.THE_END)
        self._has_closed()

    @portal.closes
    def destroy(self) -> None:
        """Close the socket at once, and on the client's side the channel; again is harmless."""
        self._closed = True
        if self._pid == os.getpid() and not portal.frozen():
            portal.call(self._socket.destroy)
            self._has_closed()

    def let_go(self) -> None:
        """Close the socket at once, without waiting until that is done; again is harmless."""
        self._closed = True
        if self._pid == os.getpid():
            self._loop.call_soon_threadsafe(self._socket.destroy)
            self._has_closed()

    def _has_closed(self) -> None:
        if self._on_closed is not None:
            self._on_closed()

    async def finish_writing(self) -> None:
        """In the loop: what a listener's thread has written is on its way before it returns."""
        while not self._move():
            moved: asyncio.Future[None] = self._loop.create_future()
            self._movers.append(moved)
            await moved

    def __enter__(self) -> ChannelSocket:
        """Wait until there is a connection."""
        self.wait_connected()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; at once when the block failed."""
        if kind is None:
            self._close(5.0)
        else:
            self.destroy()
