"""One connection on an event loop: bytes in, frames out, and what the kernel still held at the end.

A ``BufferedProtocol``: the kernel reads into the decoder's buffer, where frames are found in place
(a plain ``Protocol`` costs some 60 us more a round trip, because of its receive buffer).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from open_channel.errors import RemoteProtocolError
from open_channel.io import fork
from open_channel.protocol.batches import LARGE
from open_channel.protocol.frames import HANDSHAKE, Decoder

if TYPE_CHECKING:
    from open_channel.io.interfaces import WireOwner

__all__ = ["Wire"]

_log = logging.getLogger("open_channel")

_SEND_BUFFER = 1024 * 1024
"""Bytes that the kernel is asked to take at once; it grants what ``net.core.wmem_max`` allows. What
it does not take, asyncio before 3.12 moves about in a buffer of its own: with this a publisher of
1 MiB messages uses a third less of the processor."""
_HIGH_WATER = 256 * 1024  # bytes in the transport's own buffer above which we stop writing


class Wire(asyncio.BufferedProtocol):
    """One connected Unix socket.

    Who makes a socket and a wire of it holds ``fork.guard`` meanwhile; from then on a forked child
    closes it. The event loop closes it some time after ``connection_lost()``.
    """

    def __init__(self, sock: socket.socket, owner: WireOwner, label: str) -> None:
        self.sock = sock
        self.label = label
        self.owner = owner
        self.decoder = Decoder()
        self.reads = 0
        """Counts reads: what a watchdog looks at."""
        self.writes = 0
        """Counts writes: what tells whether a heartbeat is due."""
        self.paused = False
        """Whether the kernel and the transport hold enough: write no more."""
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._error = ""
        fork.watch_weakly(self)

    async def start(self) -> None:
        """Make a transport of the socket, in the running loop."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:
            await loop.create_unix_connection(lambda: self, sock=self.sock)
        except BaseException:
            self.sock.close()
            raise
        if self._closing and self._transport is not None:
            # It was closed before it had a transport to close. Not in connection_made(): uvloop
            # closes only what it has finished to open.
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the event loop."""
        return self.decoder.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the event loop."""
        self.reads += 1
        if self._closing:
            return
        try:
            while frames := self.decoder.received(nbytes):
                self.owner.frames_received(frames)
                if frames[-1].kind not in HANDSHAKE or self._closing:
                    break
                nbytes = 0  # what is behind it is another owner's
        except RemoteProtocolError as error:
            _log.warning("%s ended: %s", self.label, error)
            self.abort(str(error))

    def eof_received(self) -> None:
        """Called by the event loop; the transport then closes itself."""

    def pause_writing(self) -> None:
        """Called by the event loop."""
        self.paused = True

    def resume_writing(self) -> None:
        """Called by the event loop."""
        self.paused = False
        if not self._closing:
            self.owner.writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if not self._closing:
            self._read_rest()
        self._closing = True
        self._transport = None
        # Owner and wire know each other: without this, the buffer waits for the cyclic collector.
        self.decoder = Decoder()
        self.owner.wire_lost(self._error or (str(exc) if exc else "the other side closed"))

    def _read_rest(self) -> None:
        # When a write fails, asyncio closes the transport without reading what lies in the kernel,
        # and a dead host's last words may lie there. The socket is still open at this point.
        try:
            while not self._closing and (count := self.sock.recv_into(self.get_buffer(-1))):
                self.buffer_updated(count)
        except OSError:  # the end: nothing more, reset, or closed by the loop already
            return

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Write frames; nothing happens on a connection that is closing."""
        transport = self._transport
        # A transport whose peer has gone closes itself, and complains of every write after that.
        if transport is None or self._closing or transport.is_closing():
            return
        self.writes += 1
        if len(parts) == 2 and len(parts[1]) <= LARGE:  # the most frequent case by far
            transport.write(b"".join(parts))
        elif len(parts) == 1:
            transport.write(parts[0])
        elif sum(map(len, parts)) <= _HIGH_WATER:
            transport.write(b"".join(parts))
        else:
            self._write_large(transport, parts)

    def _write_large(
        self, transport: asyncio.Transport, parts: Sequence[bytes | memoryview]
    ) -> None:
        """A large part is not copied, and the small ones before it leave together."""
        small: list[bytes | memoryview] = []
        for part in parts:
            if len(part) <= LARGE:
                small.append(part)
                continue
            if small:
                transport.write(b"".join(small))
                small.clear()
            if not transport.is_closing():
                transport.write(part)
        if small and not transport.is_closing():
            transport.write(b"".join(small))

    def close(self) -> None:
        """Write what is buffered, then close; nothing is received any more."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once; what is buffered is dropped."""
        self._error = self._error or reason
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def forked(self) -> None:
        """In a child: close the descriptor, touch nothing else."""
        self._closing = True
        if (fd := self.sock.detach()) >= 0:
            os.close(fd)
