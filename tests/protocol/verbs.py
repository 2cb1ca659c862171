"""What the tests of the core do with it, as verbs: feed, and a member and a host in memory.

``decode()`` feeds a decoder in pieces. ``Pair`` joins the two sides of a session by two byte
streams that can be delivered bit by bit and cut anywhere. It does what ``open_channel.io`` does
around a session, without any I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from open_channel.protocol.batches import Message, pack, unpack
from open_channel.protocol.frames import Decoder, Frame, Kind, encode
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Batch, Outbox
from open_channel.protocol.session import Session

# --- feeding --------------------------------------------------------------------------------------


class Plain(NamedTuple):
    """A frame whose payload was copied out of the decoder's buffer."""

    kind: int
    flags: int
    number: int
    ack: int
    payload: bytes


def feed(decoder: Decoder, data: bytes) -> Iterator[Plain]:
    """Give a decoder all of the data, as much at a time as it has room for."""
    while data:
        room = decoder.get_buffer()
        assert len(room) > 0
        count = min(len(room), len(data))
        room[:count] = data[:count]
        data = data[count:]
        while frames := decoder.received(count):
            yield from [Plain(*frame[:4], bytes(frame.payload)) for frame in frames]
            count = 0  # what is behind a handshake frame comes when asked for


def decode(pieces: Iterable[bytes], limit: int = 1 << 30) -> list[Plain]:
    decoder = Decoder(limit)
    return [frame for piece in pieces for frame in feed(decoder, piece)]


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def with_trailing_bytes(data: bytes) -> list[bytes]:
    """What follows is the beginning of another frame."""
    return [data + encode(Kind.PING)[:7]]


WAYS: list[Callable[[bytes], list[bytes]]] = [whole, byte_by_byte, with_trailing_bytes]


def messages_frame(*messages: bytes, flags: int = 0, ack: int = 0) -> Frame:
    return Frame(Kind.MESSAGES, flags, len(messages), ack, memoryview(pack(messages)))


def end_frame() -> Frame:
    return Frame(Kind.END, 0, 1, 0, memoryview(b""))


# --- an outbox ------------------------------------------------------------------------------------

ALL = 1 << 40


def outbox(**limits: int) -> Outbox:
    return Outbox(Limits(**limits), lambda: 0)


def write_in_a_row(box: Outbox, *messages: bytes) -> None:
    """Write messages that become one batch."""
    for message in messages:
        box.write(message)


def write_batches(box: Outbox, *messages: Message) -> None:
    """Write each message in a batch of its own."""
    for message in messages:
        box.write(message)
        box.seal()


def messages_of(batch: Batch) -> list[bytes]:
    if batch.kind == Kind.END:
        return []
    assert batch.size == sum(map(len, batch.payload))
    return unpack(b"".join(batch.payload), batch.count)


def leaves(box: Outbox, limit: int = ALL) -> list[list[bytes]]:
    """What leaves now: the messages of each batch."""
    return [messages_of(batch) for batch in box.take(limit)]


# --- a session, both sides ------------------------------------------------------------------------

CHUNK = 256 * 1024
MANY = 100  # more exchanges than any test needs
SMALL_WINDOW = Limits(window=1024)


def numbered(count: int, size: int = 0) -> list[bytes]:
    return [b"%d" % number + bytes(size) for number in range(count)]


class Taken(NamedTuple):
    """A message that a user has got."""

    message: bytes
    redelivered: bool


class Side:
    """One side of a session, with its user and the bytes that are on their way from it."""

    def __init__(self, limits: Limits, *, hosts: bool) -> None:
        self.hosts = hosts
        self.session = Session(limits, hosts=hosts)
        self.limits = limits
        self.decoder = Decoder()
        self.in_flight = b""
        self.taken: list[Taken] = []
        self.arrived: list[bytes] = []
        """All messages received, in the order of their arrival."""
        self.acknowledged = 0
        """How many of our messages are known to be consumed, over all hostings."""
        self.earlier = 0
        """... of them by earlier hostings."""
        self.saw_end = False
        self.on_frame: Callable[[], None] = lambda: None

    # What the user does.

    def write(self, *messages: bytes) -> None:
        for message in messages:
            self.session.outbox.write(message)

    def finish(self) -> None:
        self.session.outbox.finish()

    def take(self) -> bytes:
        """Get the next message; at the host, the one before is done and this one is not."""
        inbox = self.session.inbox
        inbox.in_hand = int(self.hosts)
        message = bytes(inbox.messages.popleft())
        self.taken.append(Taken(message, inbox.redelivered))
        return message

    def come_back(self) -> None:
        """Ask for the next message and find none: what was in hand is done."""
        inbox = self.session.inbox
        assert not inbox.messages
        inbox.in_hand = 0
        if inbox.ended:
            inbox.end_waits = 0
            self.saw_end = True

    def take_all(self) -> list[bytes]:
        messages = [self.take() for _ in range(len(self.session.inbox.messages))]
        self.come_back()
        return messages

    @property
    def messages(self) -> list[bytes]:
        return [taken.message for taken in self.taken]

    @property
    def marked(self) -> list[bytes]:
        return [taken.message for taken in self.taken if taken.redelivered]

    # What the connection does.

    def connected(self, hosting: int, received: int, *, resumed: bool) -> None:
        self.decoder = Decoder(self.limits.max_payload)
        self.in_flight = b""
        if not resumed:
            self.earlier = self.acknowledged
        self.session.welcomed(hosting, received, resumed=resumed)

    def flush(self) -> bytes:
        """Put on the way what may leave; return it."""
        out = b""
        for _ in range(MANY):
            if not (parts := self.session.transmit(CHUNK)):
                self.in_flight += out
                return out
            out += b"".join(parts)
        raise AssertionError("there is always more to send")

    def receive(self, data: bytes) -> None:
        inbox, outbox = self.session.inbox, self.session.outbox
        for kind, flags, number, ack, payload in feed(self.decoder, data):
            frame = Frame(kind, flags, number, ack, memoryview(payload))
            if kind == Kind.MESSAGES:
                self.arrived += unpack(payload, number)
                inbox.receive(frame)
            elif kind == Kind.END:
                inbox.receive(frame)
            outbox.acknowledge(ack)
            self.acknowledged = max(self.acknowledged, self.earlier + ack)
            self.on_frame()


class Pair:
    """A member and its host."""

    def __init__(self, limits: Limits | None = None, *, connected: bool = True) -> None:
        self.limits = limits or Limits()
        self.hosting = 1
        self.member = Side(self.limits, hosts=False)
        self.host = Side(self.limits, hosts=True)
        self.connected = False
        if connected:
            self.resume()

    # What happens to the connection.

    def cut(self, *, up: int = 0, down: int = 0) -> None:
        """Lose the connection, and what is in flight but for its first bytes.

        ``up`` is how many bytes still arrive at the host, ``down`` how many at the member.
        """
        assert self.connected
        self.deliver(up=up, down=down)
        for side in (self.member, self.host):
            side.in_flight = b""
            side.session.lost()
        self.connected = False

    def resume(self) -> None:
        """Make a connection with the present hosting."""
        member, host = self.member.session, self.host.session
        resumed = member.hosting == self.hosting
        received = member.inbox.received, host.inbox.received
        self.host.connected(self.hosting, received[0], resumed=resumed)
        self.member.connected(self.hosting, received[1], resumed=resumed)
        self.connected = True

    def replace_host(self) -> None:
        """The host is dead, another takes its place; nobody is connected with that one yet."""
        if self.connected:
            self.cut()
        self.hosting += 1
        self.host = Side(self.limits, hosts=True)

    def takeover(self) -> None:
        """The host dies with all that is in flight; another is connected."""
        self.replace_host()
        self.resume()

    # What moves.

    def deliver(self, *, up: int = 0, down: int = 0) -> None:
        """Let some of the bytes that are in flight arrive."""
        data, self.member.in_flight = self.member.in_flight[:up], self.member.in_flight[up:]
        self.host.receive(data)
        data, self.host.in_flight = self.host.in_flight[:down], self.host.in_flight[down:]
        self.member.receive(data)

    def send_up(self) -> bytes:
        """All that the member may send arrives at the host; return those bytes."""
        data = self.member.flush()
        self.deliver(up=len(self.member.in_flight))
        return data

    def send_down(self) -> bytes:
        """All that the host may send arrives at the member; return those bytes."""
        data = self.host.flush()
        self.deliver(down=len(self.host.in_flight))
        return data

    def roundtrip(self) -> None:
        """Exchange all that may leave, with nobody reading, until nothing moves."""
        for _ in range(MANY):
            if not self.send_up() and not self.send_down():
                return
        raise AssertionError("the two sides never come to rest")

    def settle(self, answer: Callable[[bytes], bytes] | None = None) -> None:
        """Exchange and read until nothing moves; the host may write an answer to each message."""
        for _ in range(MANY):
            moved = bool(self.send_up())
            while self.host.session.inbox.messages:
                message = self.host.take()
                if answer is not None:
                    self.host.write(answer(message))
            self.host.come_back()
            moved |= bool(self.send_down())
            moved |= bool(self.member.take_all())
            if not moved:
                return
        raise AssertionError("the two sides never come to rest")
