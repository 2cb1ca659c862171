"""An event loop without a clock, and pairs of transports without a kernel.

They do what the host and its wires ask of asyncio's, in one order that is always the same, so that
the whole host runs in a case: what arrives, in which pieces, and who does not read.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import os
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from open_channel.io.wire import Wire

__all__ = ["Loop", "NoSocket", "Plug", "Timer", "plug_in"]

_TURN = 1e-6  # seconds that pass even where nothing takes time: else what is due may be never late
_ROUNDS = 100_000  # callbacks after which something runs for ever


class Timer:
    """What ``call_later()`` gives."""

    def __init__(self, when: float, callback: Callable[..., object], arguments: Any) -> None:
        self.when = when
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """As much of an event loop as the host uses."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: deque[tuple[Callable[..., object], Any]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        self._ready.append((callback, arguments))

    def call_at(self, when: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        timer = Timer(when, callback, arguments)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: Any) -> Timer:
        return self.call_at(self.now + delay, callback, *arguments)

    def run(self) -> None:
        """Until nothing is ready."""
        for _ in range(_ROUNDS):
            if not self._ready:
                return
            callback, arguments = self._ready.popleft()
            callback(*arguments)
        raise AssertionError("callbacks without end")

    def sleep(self, seconds: float) -> None:
        """Let time pass, with all that is due then."""
        until = self.now + seconds
        self.run()
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when) + _TURN
            if timer.callback is not None:
                timer.callback(*timer.arguments)
            self.run()
        self.now = max(self.now, until)

    def as_asyncio(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)


class NoSocket:
    """What a wire does with its socket, where there is none."""

    def setsockopt(self, *_: int) -> None:
        """There are no buffers."""

    def getsockopt(self, *_: int) -> bytes:
        """The other end is this process."""
        return struct.pack("=iII", os.getpid(), os.getuid(), os.getgid())

    def recv_into(self, _: memoryview) -> int:
        return 0


class Plug:
    """One end of a connection: a transport to its protocol."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._high = 1 << 16
        self.peer: Plug | None = None
        self.protocol: Wire | None = None
        self.incoming = bytearray()
        self.closing = False
        self.ended = False
        self._paused = False

    # --- what a wire asks of its transport ---------------------------------------------------

    def set_write_buffer_limits(self, high: int) -> None:
        self._high = high

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        assert not self.closing
        peer = self.peer
        if peer is None:
            return
        peer.incoming += data
        if len(peer.incoming) > self._high and not self._paused:
            self._paused = True
            assert self.protocol is not None
            self.protocol.pause_writing()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self._loop.call_soon(self._lost)

    def abort(self) -> None:
        if self.peer is not None:
            self.incoming.clear()
        self.close()

    def _lost(self) -> None:
        if self.protocol is not None and not self.ended:
            self.ended = True
            self.protocol.connection_lost(None)

    # --- what the other end does -------------------------------------------------------------

    def feed(self, most: int = 1 << 30) -> bool:
        """Give the protocol some of what has come; whether there was anything to do."""
        assert self.protocol is not None
        fed = False
        while self.incoming and most > 0 and not self.closing:
            room = self.protocol.get_buffer(-1)
            count = min(len(room), len(self.incoming), most)
            room[:count] = self.incoming[:count]
            del self.incoming[:count]
            most -= count
            self.protocol.buffer_updated(count)
            fed = True
        self._drained()
        if self.peer is not None and self.peer.closing and not self.incoming and not self.closing:
            self.protocol.eof_received()
            self.close()
            fed = True
        return fed

    def take(self, most: int = 1 << 30) -> bytes:
        """Read, as a peer without a protocol does."""
        data = bytes(self.incoming[:most])
        del self.incoming[:most]
        self._drained()
        return data

    def _drained(self) -> None:
        peer = self.peer
        if peer is not None and peer._paused and len(self.incoming) <= peer._high // 4:
            peer._paused = False
            if peer.protocol is not None and not peer.ended:
                peer.protocol.resume_writing()


def plug_in(loop: Loop, wire: Wire) -> Plug:
    """A transport for a wire, and the other end of it."""
    near, far = Plug(loop), Plug(loop)
    near.peer, far.peer = far, near
    near.protocol = wire
    wire.connection_made(cast("asyncio.BaseTransport", near))
    return far
