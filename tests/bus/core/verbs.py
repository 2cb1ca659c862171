"""What the tests of the bus's core speak in: a broker, members, and what passes between them.

There is no session here: a record that one side writes is handed to the other when ``pump()`` says
so, and acknowledged when ``ack()`` does, or with ``pump()``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from open_channel.bus.core import records as r
from open_channel.bus.core.broker import Bounds, Broker
from open_channel.bus.core.interests import Interest
from open_channel.bus.core.member import MemberCore
from open_channel.bus.core.mixed import Mixed, encode_mixed, parse_mixed
from open_channel.protocol.batches import unpack
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox

__all__ = ["BOUNDS", "Asks", "Bench", "Member", "Sub", "info", "mixed", "publication"]

BOUNDS = Bounds(grace=6.0, lag=1.0, queue=1 << 20, feed=1 << 20)


def info(number: int) -> r.MemberInfo:
    """A member's, by its number."""
    return r.MemberInfo(number.to_bytes(16, "big"), number, {})


def publication(sender: int, first: int, count: int = 1, topic: str = "t") -> bytes:
    """What a member publishes."""
    bodies = [f"{seq}".encode() for seq in range(first, first + count)]
    who = info(sender).id
    return bytes(r.encode_publication(r.PUBLISH, 0, topic.encode(), first, who, r.NOBODY, bodies))


def mixed(sender: int, first: int, *topics: str, flags: int = 0) -> bytes:
    """What a member publishes to several topics."""
    names = [topic.encode() for topic in topics]
    bodies = [f"{seq}".encode() for seq in range(first, first + len(topics))]
    return encode_mixed(flags, names, first, info(sender).id, bodies)


def written(outbox: Outbox) -> list[bytes]:
    """Take what an outbox has to send; it stays unacknowledged."""
    found: list[bytes] = []
    while batches := outbox.take(1 << 30):
        for batch in batches:
            found += unpack(b"".join(batch.payload), batch.count)
    return found


class Sub:
    """One subscription, and what its user was told: see ``Sink``."""

    def __init__(self, member: Member, pattern: str, **options: object) -> None:
        self.is_live = False
        self.got: list[bytes] = []
        self.topics: list[str] = []
        """Of what came mixed."""
        self.jobs: list[tuple[bytes, int, bytes, bool]] = []
        self.missed: list[int] = []
        self.gone: list[tuple[bytes, int]] = []
        self.member = member
        self.interest = member.core.subscribe(
            lambda number: Interest(number, pattern, self, **options)  # type: ignore[arg-type]
        )

    def live(self) -> None:
        self.is_live = True

    def deliver(self, publication: r.Publication, messages: Sequence[bytes]) -> None:
        self.got += messages

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        assert len(topics) == len(messages)
        self.got += messages
        self.topics += topics

    def job(self, publication: r.Publication, seq: int, message: bytes, redelivered: bool) -> None:
        self.jobs.append((publication.sender, seq, message, redelivered))

    def missing(self, count: int) -> None:
        self.missed.append(count)

    def lost(self, publisher: bytes, seq: int) -> None:
        self.gone.append((publisher, seq))

    def finish(self) -> bool:
        """Its first job is done."""
        publisher, seq, _, _ = self.jobs.pop(0)
        return self.member.core.done(self.interest, publisher, seq)


class Asks:
    """Who waits for a reply: see ``Awaiting``; the first one is all, or the end of it."""

    def __init__(self, *, wants: int = 1) -> None:
        self.wants = wants
        self.replies: list[tuple[bytes, bool]] = []
        self.why: r.End | None = None
        self.named: list[bytes] = []
        self.left_by: list[bytes] = []
        self.goes_by: set[bytes] = set()

    def replied(self, publication: r.Publication, failed: bool, body: bytes) -> bool:
        self.replies.append((body, failed))
        return len(self.replies) == self.wants

    def ended(self, why: r.End) -> None:
        self.why = why

    def responders(self, members: Sequence[bytes]) -> bool:
        self.named += members
        return len(members) == len(self.replies)

    def left(self, member: bytes) -> bool:
        self.left_by.append(member)
        return member in self.goes_by


class Member:
    """A member's core, and what its user was told."""

    def __init__(self, number: int) -> None:
        self.info = info(number)
        self.id = self.info.id
        self.outbox = Outbox(Limits(outbox=1 << 30), lambda: 0)
        self.core = MemberCore(self.info, self.outbox, self)
        self.came: list[bytes] = []
        self.went: list[bytes] = []
        self.room = 0
        self.seen: list[bytes] = []
        """The records it has heard."""

    def joined(self, member: r.MemberInfo) -> None:
        self.came.append(member.id)

    def left(self, member: r.MemberInfo) -> None:
        self.went.append(member.id)

    def has_room(self) -> None:
        self.room += 1

    def hear(self, *records: r.Control | bytes) -> None:
        """A broker says something."""
        for record in records:
            encoded = record if isinstance(record, bytes) else r.encode_control(record)
            self.seen.append(encoded)
            self.core.receive(encoded)

    def says(self) -> list[r.Control | r.Publication | Mixed]:
        """What it has to say to a broker, taken apart."""
        self.core.flush()
        return [_decode(record) for record in written(self.outbox)]

    def controls(self) -> list[r.Control]:
        """The control records that it has heard."""
        return [r.decode_control(record) for record in self.seen if record[0] == r.CONTROL]


def _decode(record: bytes) -> r.Control | r.Publication | Mixed:
    if record[0] == r.CONTROL:
        return r.decode_control(record)
    return parse_mixed(record) if record[0] == r.MIXED else r.parse(record)


class Bench:
    """A broker with members; everybody who is not ``away`` is in touch."""

    def __init__(self, *members: Member, bounds: Bounds = BOUNDS, settled: bool = True) -> None:
        self.now = 100.0
        self.bounds = bounds
        self.members = {member.id: member for member in members}
        self.away: set[bytes] = set()
        self.boxes: dict[bytes, Outbox] = {}
        self.waiting: dict[bytes, deque[bytes]] = {}
        self.broker = Broker([member.info for member in members], bounds, self.now)
        if settled:
            for member in members:
                self.open(member)
            self.pump()

    def open(self, member: Member) -> None:
        """A session with this broker begins."""
        self.members[member.id] = member
        member.outbox.clear()
        member.outbox.restart()
        self.boxes[member.id] = Outbox(Limits(outbox=1 << 30), lambda: 0)
        self.waiting[member.id] = deque()
        member.core.opened()

    def say(self, member: Member) -> None:
        """The broker hears what a member has said."""
        member.core.flush()
        for record in written(member.outbox):
            self.broker.received(member.id, self.boxes[member.id], record, self.now)
        self.broker.flush()

    def hear(self, member: Member, count: int = 1 << 30) -> None:
        """A member hears what the broker has said; it is not acknowledged."""
        waiting = self.waiting[member.id]
        waiting += written(self.boxes[member.id])
        for _ in range(min(count, len(waiting))):
            member.hear(waiting.popleft())

    def ack(self, member: Member) -> None:
        """A member has received all that was written to it."""
        self.hear(member)
        box = self.boxes[member.id]
        box.acknowledge(box._sent_last - box._base)
        self.broker.acknowledged(member.id, self.now)
        self.broker.flush()

    def pump(self) -> None:
        """Everybody who is in touch says, hears and acknowledges all there is."""
        for _ in range(20):
            for member_id, member in self.members.items():
                if member_id in self.boxes and member_id not in self.away:
                    self.say(member)
                    self.ack(member)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.broker.tick(self.now)
        self.broker.flush()

    def dies(self, member: Member) -> None:
        """A member is dead."""
        del self.members[member.id]
        self.boxes.pop(member.id, None)
        self.broker.left(member.id, self.now)
        self.broker.flush()

    def succeeded_by(self, *, without: Sequence[Member] = ()) -> Bench:
        """Another host: all are expected, and come back but for some."""
        bench = Bench(*self.members.values(), bounds=self.bounds, settled=False)
        for member in self.members.values():
            if member not in without:
                bench.open(member)
        bench.pump()
        return bench


def subscribe(bench: Bench, member: Member, pattern: str = "t", **options: object) -> Sub:
    sub = Sub(member, pattern, **options)
    bench.pump()
    assert sub.is_live
    return sub


def worker(bench: Bench, member: Member, pattern: str = "t", **options: object) -> Sub:
    return subscribe(bench, member, pattern, group="g", **options)


def responder(bench: Bench, member: Member, pattern: str = "t", **options: object) -> Sub:
    return subscribe(bench, member, pattern, serves=True, **options)


def publish(bench: Bench, member: Member, *bodies: bytes, topic: bytes = b"t") -> None:
    for body in bodies:
        member.core.publish(topic, body, 0)
    bench.pump()


def mix(bench: Bench, member: Member, *topics: str) -> None:
    for number, topic in enumerate(topics, member.core.last + 1):
        member.core.publish(topic.encode(), str(number).encode(), 0)
    bench.pump()


def ask(bench: Bench, member: Member, flags: int = 0, topic: bytes = b"t", wants: int = 1) -> Asks:
    asks = Asks(wants=wants)
    member.core.request(topic, r.NOBODY, b"?", flags, asks)
    bench.pump()
    return asks


def answer(bench: Bench, sub: Sub) -> None:
    publisher, seq, _, _ = sub.jobs.pop(0)
    sub.member.core.reply(publisher, seq, False, b"!", 0)
    bench.pump()


def numbers(sub: Sub) -> list[int]:
    return [seq for _, seq, _, _ in sub.jobs]
