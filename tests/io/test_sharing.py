"""What the two sides of a session tell each other of shared memory, and who may use it when."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from typing import cast
from weakref import WeakSet

import pytest

from open_channel.errors import RemoteProtocolError
from open_channel.io import sharing as module
from open_channel.io.arena import Arena, Foreign, Slot
from open_channel.io.sharing import Sharing
from open_channel.io.wire import Wire
from open_channel.protocol.batches import Large
from open_channel.protocol.frames import Decoder, Frame, Kind, encode
from open_channel.protocol.limits import Limits
from open_channel.protocol.session import Session
from open_channel.protocol.shared import STAMP, Offer, decode_holding
from tests.protocol.verbs import decode, whole

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there is no memfd")

KIB = 1024
MIB = 1024 * KIB
BODY = os.urandom(200 * KIB)
ALL = 1 << 40
HOSTING, NEXT = 7, 8


class Line:
    """One end of a connection: what is written waits until it is delivered, or lost."""

    sock: socket.socket
    """What tells whose process the other end is in: this one."""

    def __init__(self) -> None:
        self.decoder = Decoder(64 * MIB)
        self.aborted = ""
        self.written: list[bytes] = []

    def write(self, parts: list[bytes]) -> None:
        self.written += parts

    def abort(self, reason: str) -> None:
        self.aborted = reason

    def frames(self) -> list[Frame]:
        data, self.written = b"".join(self.written), []
        return [Frame(*plain[:4], memoryview(plain.payload)) for plain in decode(whole(data))]


class End:
    """One side of a session."""

    arenas: list[Arena]

    def __init__(self, *, hosts: bool, large: bool = True) -> None:
        limits = Limits(window=64 * MIB)
        self.session = Session(limits, hosts=False, carries=False, large=large)
        self.arena = Arena(2 * MIB)
        self.arenas.append(self.arena)
        self.held: WeakSet[Foreign] | None = WeakSet() if hosts else None
        self.sharing = Sharing(self.session, self.arena, self.held)
        self.line = Line()

    def connect(self, hosting: int = HOSTING, received: int = 0, *, resumed: bool = False) -> None:
        if self.session.hosting:
            self.sharing.detach()
            self.session.lost()
            self.line = Line()
        self.session.welcomed(hosting, received, resumed=resumed)
        self.sharing.attach(cast("Wire", self.line), resumed=resumed)

    def send(self, *messages: Large) -> None:
        for message in messages:
            self.session.outbox.write(message)
        self.line.write(cast("list[bytes]", self.session.transmit(ALL)))

    def tell(self, *, all_of_it: bool = False) -> None:
        self.line.write(self.sharing.tell(all_of_it=all_of_it))

    def hear(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind == Kind.MESSAGES:
                message = self.sharing.read(frame) if frame.flags else None
                if frame.flags and message is None:
                    return
                self.session.inbox.receive(frame, message)
            elif frame.kind != Kind.ACK:
                self.sharing.received(frame)
            if frame.ack:
                self.session.outbox.acknowledge(frame.ack)

    def take(self) -> list[Large]:
        taken = [cast("Large", one) for one in self.session.inbox.messages]
        self.session.inbox.messages.clear()
        return taken

    @property
    def free(self) -> int:
        """How many more such bodies fit."""
        slots = list[Slot]()
        while (slot := self.arena.put(BODY)) is not None:
            slots.append(slot)
        return len(slots)


class Couple:
    """A member and its host."""

    def __init__(self) -> None:
        self.member = End(hosts=False)
        self.host = End(hosts=True)

    def connect(self, hosting: int = HOSTING, *, resumed: bool = False) -> None:
        there, here = self.host.session.inbox.received, self.member.session.inbox.received
        self.member.connect(hosting, there if resumed else 0, resumed=resumed)
        self.host.connect(hosting, here if resumed else 0, resumed=resumed)

    def pass_on(self) -> None:
        """Until there is nothing to be passed on."""
        while (up := self.member.line.frames()) + (down := self.host.line.frames()):
            self.host.hear(up)
            self.member.hear(down)

    def publish(self, count: int = 1) -> list[Large]:
        for _ in range(count):
            self.member.send(Large(b"head", BODY))
        self.pass_on()
        return self.host.take()

    def say(self) -> None:
        """What the host has to say, and the acknowledgement of all that it has."""
        self.host.tell(all_of_it=True)
        self.host.line.write(cast("list[bytes]", self.host.session.transmit(ALL)))
        self.pass_on()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The memory of all ends is given back."""
    made: list[Arena] = []
    monkeypatch.setattr(End, "arenas", made, raising=False)
    one, other = socket.socketpair(socket.AF_UNIX)
    monkeypatch.setattr(Line, "sock", one, raising=False)
    with one, other:
        yield
    for arena in made:
        arena.close()


@pytest.fixture
def couple() -> Couple:
    one = Couple()
    one.connect()
    one.publish()  # with the first they find each other
    one.say()
    return one


def same(message: Large) -> bool:
    return bytes(message) == b"head" + BODY


ROOM = 9  # bodies that fit in 2 MiB


def test_a_host_holds_a_message_where_its_member_has_put_it(couple: Couple) -> None:
    assert couple.member.free == ROOM
    one, two = couple.publish(2)
    couple.say()
    assert not couple.member.session.outbox.size  # all is acknowledged
    assert couple.member.free == ROOM - 2
    del one
    couple.say()
    assert couple.member.free == ROOM - 1
    assert same(two)
    del two
    couple.say()
    assert couple.member.free == ROOM
    assert couple.host.free == ROOM  # nothing was ever put there


def test_a_member_that_relays_nothing_keeps_nothing() -> None:
    """As a client of a listener, whose host copies at once."""
    couple = Couple()
    couple.member = End(hosts=False, large=False)
    couple.host = End(hosts=True, large=False)
    couple.connect()
    for _ in range(3):
        couple.member.session.outbox.write(BODY)
        couple.member.line.write(cast("list[bytes]", couple.member.session.transmit(ALL)))
        couple.pass_on()
        assert list(map(bytes, couple.host.take())) == [BODY]
        couple.host.line.write(cast("list[bytes]", couple.host.session.transmit(ALL)))
        couple.pass_on()
    assert couple.member.free == ROOM
    assert not couple.host.sharing.news
    holding = [encode(Kind.HOLDING, payload=bytes(8))]
    couple.host.line.write(holding)
    with pytest.raises(RemoteProtocolError, match="not lent"):
        couple.pass_on()


def test_what_is_held_is_said_once_for_many(couple: Couple) -> None:
    """Else what is said for each would grow with how much is held."""
    held = couple.publish(ROOM)
    said = 0
    while held:
        del held[-1]
        frames = couple.host.sharing.tell()
        said += len(frames)
        couple.host.line.write(frames)
        couple.pass_on()
    assert 1 < said < ROOM
    assert couple.host.sharing.tell() == []
    couple.say()
    assert couple.member.free == ROOM


def test_what_was_said_and_lost_is_said_again(couple: Couple) -> None:
    one, two = couple.publish(2)
    couple.say()
    del one
    couple.host.tell(all_of_it=True)
    couple.connect(resumed=True)  # and nothing of it arrived
    assert couple.member.free == ROOM - 2
    couple.say()
    assert couple.member.free == ROOM - 1
    assert same(two)


def test_what_is_on_its_way_is_not_what_is_held(couple: Couple) -> None:
    """The host speaks of what it has received, and that is not all that it was told."""
    (one,) = couple.publish()
    del one
    couple.host.tell()
    couple.host.send()
    couple.member.send(Large(b"head", BODY))
    couple.member.hear(couple.host.line.frames())
    assert couple.member.free == ROOM - 1
    couple.pass_on()
    (two,) = couple.host.take()
    assert same(two)


def test_what_did_not_arrive_is_told_again_where_it_is(couple: Couple) -> None:
    couple.member.send(Large(b"head", BODY))
    couple.connect(resumed=True)
    couple.say()
    couple.member.send()
    couple.pass_on()  # it must be offered again first, so this comes through the socket
    (one,) = couple.host.take()
    assert same(one)
    del one
    couple.say()
    (one,) = couple.publish()
    assert same(one)
    del one
    couple.say()
    assert couple.member.free == ROOM


def test_another_host_holds_nothing(couple: Couple) -> None:
    held = couple.publish(3)
    couple.say()
    couple.host = End(hosts=True)
    couple.connect(NEXT)
    assert couple.member.free == ROOM
    assert len(held) == 3


def test_a_host_that_gave_the_session_up_may_hold_what_it_had(couple: Couple) -> None:
    held = couple.publish(3)
    couple.say()
    couple.host = End(hosts=True)
    couple.connect(HOSTING)
    couple.publish()
    for _ in range(3):
        couple.publish()
        couple.say()
    assert couple.member.free == ROOM - 3
    assert all(map(same, held))
    couple.connect(NEXT)
    assert couple.member.free == ROOM


def test_what_is_held_stays_when_the_session_is_over(couple: Couple) -> None:
    """Another part of the channel may use the same memory still."""
    held = couple.publish(3)
    couple.say()
    couple.member.sharing.over()
    couple.member.sharing = Sharing(couple.member.session, couple.member.arena)
    assert couple.member.free == ROOM - 3
    assert all(map(same, held))
    couple.member.arena.close()
    assert all(map(same, held))


# --- relayed --------------------------------------------------------------------------------------


class Trio(Couple):
    """... and another member, to which the host relays."""

    def __init__(self) -> None:
        super().__init__()
        self.door = End(hosts=True)
        self.door.arena = self.host.arena
        self.door.sharing = Sharing(self.door.session, self.door.arena, self.door.held)
        self.reader = End(hosts=False)
        for end in self.door, self.reader:
            end.connect()

    def relay(self, *messages: Large) -> list[bytes]:
        """What the reader has got of them, and of what was to be sent again."""
        self.door.send(*messages)
        while (up := self.reader.line.frames()) + (down := self.door.line.frames()):
            self.door.hear(up)
            self.reader.hear(down)
        received = [bytes(one) for one in self.reader.session.inbox.messages]
        self.reader.session.inbox.messages.clear()
        self.reader.line.write(cast("list[bytes]", self.reader.session.transmit(ALL)))
        self.door.hear(self.reader.line.frames())
        return received


@pytest.fixture
def trio() -> Trio:
    one = Trio()
    one.connect()
    one.relay(*one.publish())
    one.say()
    assert one.relay(*one.publish()) == [b"head" + BODY]
    one.say()
    return one


def puts(monkeypatch: pytest.MonkeyPatch) -> list[Arena]:
    """Who copies something into its memory from now on."""
    found: list[Arena] = []
    put = Arena.put

    def counted(arena: Arena, body: bytes | memoryview) -> Slot | None:
        found.append(arena)
        return put(arena, body)

    monkeypatch.setattr(Arena, "put", counted)
    return found


def test_a_reader_copies_from_where_the_writer_has_put_it(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = puts(monkeypatch)
    for _ in range(3):
        assert trio.relay(*trio.publish()) == [b"head" + BODY]
        trio.say()
    assert copied == [trio.member.arena] * 3


def test_memory_that_is_gone_is_withdrawn(trio: Trio) -> None:
    mapped = "memfd:open-channel"

    def maps() -> int:
        with open("/proc/self/maps") as lines:
            return sum(mapped in line for line in lines)

    before = maps()
    trio.member.arena.close()  # with the process, mostly
    trio.host.sharing.over()
    trio.door.tell(all_of_it=True)
    trio.relay()
    assert maps() == before - 3  # the writer's own, the host's and the reader's


def test_another_memory_by_the_same_name_is_another(trio: Trio) -> None:
    """The writer connects anew: the host opens its memory once more, and drops what it had."""
    trio.connect(resumed=True)
    for _ in range(4):
        assert trio.relay(*trio.publish()) == [b"head" + BODY]
        trio.say()


def test_who_cannot_read_the_writers_memory_reads_the_hosts(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two such readers, say, in a container of their own: one copy is enough for both."""
    trio.reader.connect()
    trio.door.connect()
    opened = Foreign.open
    monkeypatch.setattr(
        Foreign, "open", lambda offer: opened(offer) if offer.size != 2 * MIB else None
    )
    trio.door.arena = Arena(4 * MIB)
    trio.door.sharing._arena = trio.door.arena
    for _ in range(2):  # by the socket: to the first offer, and to the second
        assert trio.relay(*trio.publish()) == [b"head" + BODY]
    copied = puts(monkeypatch)
    for _ in range(3):
        (one,) = trio.publish()
        assert trio.relay(one, one) == [b"head" + BODY] * 2
        del one
        trio.say()
    assert copied.count(trio.door.arena) == 3
    trio.door.arena.close()


def test_a_writer_that_changes_what_it_told_harms_nobody(trio: Trio) -> None:
    """The reader ends its connection, and gets that writer's messages by another way from then."""
    (one,) = trio.publish()
    slot = cast("Slot", one.place)
    memory = trio.member.arena._memory
    assert memory is not None
    STAMP.pack_into(memory, slot.at - 64, 0)
    assert trio.relay(one) == []
    assert "not there any more" in trio.reader.line.aborted
    received = trio.reader.session.inbox.received
    trio.reader.connect(resumed=True)
    trio.door.connect(received=received, resumed=True)
    assert trio.relay() == [b"head" + BODY]
    for _ in range(3):
        assert trio.relay(*trio.publish()) == [b"head" + BODY]
        trio.say()
    assert not trio.reader.line.aborted
    # Another host may have had a good reason: the writer took the place back, being with the next.
    trio.reader.connect(NEXT)
    assert not trio.reader.sharing._bad


# --- what makes no sense --------------------------------------------------------------------------


def test_a_member_offers_no_memory_but_its_own(couple: Couple) -> None:
    couple.member.line.write([encode(Kind.OFFER, payload=Offer(os.getpid(), 3, MIB, 5).encode())])
    with pytest.raises(RemoteProtocolError, match="another's"):
        couple.pass_on()


def test_the_same_memory_is_not_offered_twice(couple: Couple) -> None:
    offer = couple.member.arena.offer()
    assert offer is not None
    couple.member.line.write([encode(Kind.OFFER, payload=offer.encode())])
    with pytest.raises(RemoteProtocolError, match="second offer"):
        couple.pass_on()


def test_no_more_than_so_many_are_taken(monkeypatch: pytest.MonkeyPatch, couple: Couple) -> None:
    monkeypatch.setattr(module, "_MOST", 1)
    others = [Arena(MIB) for _ in range(3)]
    for other in others:
        offer = other.offer()
        assert offer is not None
        couple.host.line.write([encode(Kind.OFFER, payload=offer.encode())])
    couple.pass_on()
    assert len(couple.member.sharing._foreign) == 1
    for other in others:
        other.close()


def test_what_is_held_is_told_with_its_number(couple: Couple) -> None:
    first, second = couple.publish(2)
    del second
    (frame,) = [Frame(*one) for one in decoded(couple.host.sharing.tell(all_of_it=True))]
    stamp = cast("Slot", first.place).stamp
    assert (frame.kind, decode_holding(frame.payload)) == (Kind.HOLDING, (3, {stamp}))


def decoded(frames: list[bytes]) -> list[Frame]:
    line = Line()
    line.write(frames)
    return line.frames()
