"""Connections as the kernel keeps them: two queues, each with what was written and not read yet.

What is in the kernel's queue stays readable after its writer's death. What did not fit waits in
the writer's process, and is gone with it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from open_channel.protocol.control import Hello, Refusal, Welcome
from open_channel.protocol.frames import HEADER, Frame, Kind
from tests.simulation.coverage import heard

if TYPE_CHECKING:
    from open_channel.protocol.session import Session
    from tests.simulation.hosting import Guest, Hosting
    from tests.simulation.process import Process

Item = Hello | Welcome | Refusal | Frame
"""What travels; it is not encoded."""

GOODBYE = Frame(int(Kind.GOODBYE), 0, 0, 0, memoryview(b""))
PING = Frame(int(Kind.PING), 0, 0, 0, memoryview(b""))

CHUNK = 256 * 1024
"""Bytes that are written at a time."""

_unpack = HEADER.unpack


def frames(parts: list[bytes | memoryview]) -> list[Frame]:
    """What ``Session.transmit()`` gives, by frames: a header, then the pieces of its payload."""
    if len(parts) == 2:  # as mostly
        length, kind, flags, number, ack = _unpack(parts[0])
        payload = bytes(parts[1])
        assert len(payload) == length
        return [Frame(kind, flags, number, ack, memoryview(payload))]
    found: list[Frame] = []
    rest = iter(parts)
    for header in rest:
        length, kind, flags, number, ack = _unpack(header)
        payload = b""
        while len(payload) < length:
            payload += next(rest)
        assert len(payload) == length
        found.append(Frame(kind, flags, number, ack, memoryview(payload)))
    return found


def take_hello(items: list[Item]) -> Hello:
    """What a connection begins with, at the host's end."""
    hello = items.pop(0)
    assert isinstance(hello, Hello)
    heard[Kind.HELLO] += 1
    return hello


def take_welcome(items: list[Item]) -> Welcome | None:
    """... at the member's; None when it is refused."""
    answer = items.pop(0)
    if isinstance(answer, Refusal):
        heard[Kind.REFUSAL] += 1
        return None
    assert isinstance(answer, Welcome)
    heard[Kind.WELCOME] += 1
    return answer


class Pipe:
    """One direction of a connection."""

    __slots__ = ("_closing", "broken", "buffer", "closed", "kernel", "room")

    def __init__(self, room: int) -> None:
        self.room = room
        self.kernel: deque[Item] = deque()
        self.buffer: deque[Item] = deque()
        """In the writer's process."""
        self.closed = False
        """Nothing follows what is in the kernel."""
        self.broken = False
        """Nobody reads any more."""
        self._closing = False

    @property
    def paused(self) -> bool:
        """Whether the writer should wait."""
        return bool(self.buffer)

    @property
    def movable(self) -> bool:
        return bool(self.buffer) and (self.broken or len(self.kernel) < self.room)

    def write(self, *items: Item) -> None:
        if self.closed or self._closing:
            return
        if not self.broken and not self.buffer and len(self.kernel) + len(items) <= self.room:
            self.kernel.extend(items)
        else:
            self.buffer.extend(items)
            self.pump()

    def pump(self) -> None:
        """What fits goes to the kernel."""
        if self.broken:
            self.buffer.clear()
        while self.buffer and len(self.kernel) < self.room:
            self.kernel.append(self.buffer.popleft())
        if self._closing and not self.buffer:
            self.closed = True

    def close(self) -> None:
        """Nothing more is written; what was is sent first."""
        self._closing = True
        self.pump()

    def abort(self) -> None:
        """The same at once: the writer is dead, or does not care."""
        self.buffer.clear()
        self.closed = True

    def stop_reading(self) -> None:
        self.broken = True
        self.kernel.clear()
        self.pump()

    @property
    def readable(self) -> bool:
        return not self.broken and (bool(self.kernel) or self.closed)

    def take(self, count: int) -> list[Item]:
        kernel = self.kernel
        if count >= len(kernel):
            items = list(kernel)
            kernel.clear()
            return items
        return [kernel.popleft() for _ in range(count)]


class Wire:
    """A pipe each way; closed by either side or both."""

    __slots__ = ("down", "up", "welcomed")

    def __init__(self, room: int) -> None:
        self.up = Pipe(room)
        self.down = Pipe(room)
        self.welcomed = False
        """Once the member has read the answer."""

    def close_member(self, *, at_once: bool = True) -> None:
        """The member's end."""
        if at_once:
            self.up.abort()
        else:
            self.up.close()
        self.down.stop_reading()

    def close_host(self, *, at_once: bool = True) -> None:
        """The host's end."""
        if at_once:
            self.down.abort()
        else:
            self.down.close()
        self.up.stop_reading()

    def cut(self, up: int, down: int) -> None:
        """It breaks: of what was on its way, so many frames arrive still."""
        for pipe, kept in ((self.up, up), (self.down, down)):
            pipe.abort()
            while len(pipe.kernel) > kept:
                pipe.kernel.pop()


class Connection(Wire):
    """Between a member of the bus and a hosting."""

    __slots__ = ("guest", "hosting", "member")

    def __init__(self, member: Process, hosting: Hosting, room: int) -> None:
        super().__init__(room)
        self.member = member
        self.hosting = hosting
        self.guest: Guest | None = None
        """Once the host has taken the hello."""


def transmit(session: Session, pipe: Pipe) -> None:
    """See ``SessionIO.write()``."""
    while not pipe.paused and (parts := session.transmit(CHUNK)):
        pipe.write(*frames(parts))
        if not session.outbox.sendable:
            return
