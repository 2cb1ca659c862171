"""What a peer says that speaks almost the protocol: records, frames and hellos, good and odd.

A speaker keeps what one of its kind would know (its numbers, its subscriptions, the jobs it was
probably given), so that most of what it says is taken seriously; the rest is wrong in one place.
It never looks at what it is answered: the same chance always says the same.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import msgspec

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import encode_done, encode_reply
from open_channel.bus.core.mixed import MIXED_HEADER
from open_channel.protocol.batches import pack
from open_channel.protocol.control import Hello, Welcome, encode_hello, encode_welcome
from open_channel.protocol.frames import HEADER, MAGIC, VERSION, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.chance import Chance

__all__ = ["TOPICS", "BrokerSpeaker", "Speaker", "frame", "hello", "messages", "welcome"]

TOPICS = ("news", "news.eu", "jobs", "price", "held", "own", "own.a")
_PATTERNS = (*TOPICS, "*", ">", "news.*", "own.>", "own.*", "*.*")
_ODD_PATTERNS = ("", ".", "a..b", ">.a", "a.>.b", "a b", "a\0", "news.", ".news", "*" * 2000, "é")
_GROUPS = ("", "", "", "g", "h", "g news", " ")
_KEYS = ("g jobs", "g jobs", "h news", "", "g", "g price")
_FLAGS = (0, 0, 0, 0, 1, 2, 3, 4, 4, 12, 16, 32, 48, 255)


class Speaker:
    """A hostile member, towards a broker.

    What only the others' word for it can tell (that a job of theirs is done or in hand, that a
    request of theirs is answered) a broker believes. ``forges`` false leaves that out, and what
    is published to topics that others read as their own.
    """

    def __init__(
        self, chance: Chance, me: bytes, others: list[bytes], *, forges: bool = True
    ) -> None:
        self.chance = chance
        self.me = me
        self.others = others
        self.forges = forges
        self.next = 1
        self.subscriptions = 0
        self._kinds = [
            kind
            for kind, weight in (
                (self._publication, 24),
                (self._mixed, 10),
                (self._request, 8),
                (self._reply, 6),
                (self._done, 6),
                (self._subscribe, 14),
                (self._unsubscribe, 6),
                (self._reject, 6),
                (self._took, 6),
                (self._cancel, 4),
                (self._resent, 2),
                (self._again, 1),
                (self._brokers, 2),
                (self._job, 1),
                (self._ack, 1),
                (self._noise, 2),
            )
            for _ in range(weight)
        ]

    def record(self) -> bytes:
        """One record; one in six is spoiled."""
        record = self.chance.pick(self._kinds)()
        return self.chance.mutate(record) if self.chance.one_in(6) else record

    # --- publications ----------------------------------------------------------------------

    def publication(
        self,
        kind: int,
        flags: int,
        topic: str,
        to: bytes,
        bodies: list[bytes],
        *,
        numbered: bool = True,
    ) -> bytes:
        chance = self.chance
        first, sender = self.next, self.me
        if numbered:
            self.next += len(bodies)
        if chance.one_in(25):
            first = chance.number()
        if chance.one_in(40):
            sender = self.someone()
        count = len(bodies) if not chance.one_in(40) else chance.number(32)
        name = topic.encode()
        size = len(name) if not chance.one_in(60) else chance.number(16)
        lengths = array("I", map(len, bodies))
        if lengths and chance.one_in(25):
            lengths[int(chance.random() * len(lengths))] = chance.number(32)
        head = r.HEADER.pack(kind, flags, size, count, first, sender, to)
        return b"".join([head, name, lengths, *bodies])

    def mixed(self, flags: int, *, part: bool = False) -> bytes:
        """A publication to several topics; one number in it may be wrong."""
        chance = self.chance
        names = [self.topic().encode() for _ in range(1 + int(chance.random() * 4))]
        topics = [chance.pick(names) for _ in range(1 + int(chance.random() * 6))]
        table = list(dict.fromkeys(topics))
        which = array("H", map(table.index, topics))
        lengths = array("I", [chance.pick((0, 3, 3, 9)) for _ in topics])
        count, first, sender = len(topics), self.next, self.me
        span = count + int(chance.random() * 3) if part else count
        self.next += span
        size = len(b"\n".join(table))
        if chance.one_in(5):
            match int(chance.random() * 7):
                case 0:
                    first = chance.number()
                case 1:
                    sender = self.someone()
                case 2:
                    count = chance.number(32)
                case 3:
                    span = chance.number(32)
                case 4:
                    size = chance.number(32)
                case 5:
                    which[int(chance.random() * len(which))] = chance.number(16)
                case _:
                    lengths[int(chance.random() * len(lengths))] = chance.number(32)
        zeros = 0 if not chance.one_in(40) else chance.number(16)
        head = MIXED_HEADER.pack(r.MIXED, flags, zeros, count, first, sender, span, size)
        bodies = [chance.randbytes(length) if length < 10 else b"" for length in lengths]
        return b"".join([head, b"\n".join(table), which, lengths, *bodies])

    def _mixed(self) -> bytes:
        chance = self.chance
        flags = chance.pick(_FLAGS) if chance.one_in(8) else chance.pick((0, 1, 2))
        return self.mixed(flags, part=chance.one_in(15))

    def _bodies(self) -> list[bytes]:
        chance = self.chance
        if chance.one_in(4):
            return [chance.blob() for _ in range(int(chance.random() * 9))]
        return [chance.blob()]

    def topic(self) -> str:
        chance = self.chance
        if chance.one_in(30):
            return chance.pick(_ODD_PATTERNS)
        if chance.one_in(15):
            return f"own.{chance.number(16)}"
        return chance.pick(TOPICS)

    def someone(self) -> bytes:
        chance = self.chance
        kind = chance.random()
        if kind < 0.7:
            return chance.pick(self.others)
        if kind < 0.85:
            return self.me
        return chance.pick((r.NOBODY, b"\xff" * 16, chance.randbytes(16)))

    def _publication(self) -> bytes:
        chance = self.chance
        flags = chance.pick(_FLAGS) if chance.one_in(6) else chance.pick((0, 1))
        kind = r.PUBLISH if not chance.one_in(12) else r.DIRECT
        to = r.NOBODY if not chance.one_in(15) else self.someone()
        return self.publication(kind, flags, self.topic(), to, self._bodies())

    def _request(self) -> bytes:
        chance = self.chance
        everyone = 8 if chance.one_in(3) else 0
        to = self.someone() if chance.one_in(3) else r.NOBODY
        kind = r.DIRECT if to != r.NOBODY else r.PUBLISH
        bodies = [b"?"] if not chance.one_in(10) else self._bodies()
        return self.publication(kind, 4 | everyone, chance.pick(TOPICS), to, bodies)

    def believed(self) -> bytes:
        """Somebody of whose jobs and requests it speaks."""
        return self.someone() if self.forges else self.me

    def _reply(self) -> bytes:
        chance = self.chance
        body = encode_reply(chance.number(), chance.one_in(4), chance.blob())
        if chance.one_in(8):
            body = chance.mutate(body)
        return self.publication(r.DIRECT, 16, "", self.believed(), [body])

    def _done(self) -> bytes:
        chance = self.chance
        done: Any = [(self.seq(), chance.pick(_KEYS)) for _ in range(1 + int(chance.random() * 3))]
        body = msgspec.msgpack.encode(done if not chance.one_in(8) else chance.odd())
        return self.publication(r.DIRECT, 32, "", self.believed(), [body])

    def seq(self) -> int:
        chance = self.chance
        return chance.number() if chance.one_in(8) else 1 + int(chance.random() * 30)

    # --- commands --------------------------------------------------------------------------

    def control(self, tag: int, *fields: Any) -> bytes:
        return bytes((r.CONTROL,)) + self.chance.tagged(tag, *fields)

    def subscription(self) -> list[Any]:
        chance = self.chance
        self.subscriptions += 1
        number: int = self.subscriptions
        if chance.one_in(10):
            number = chance.pick((number - 1, 1, 0, -1, 2**32, 2**63, chance.number()))
        pattern = chance.pick(_PATTERNS) if not chance.one_in(8) else chance.pick(_ODD_PATTERNS)
        prefetch = int(chance.random() * 4)
        if chance.one_in(10):
            prefetch = chance.pick((-1, 2**40, 2**63))
        serves = chance.one_in(5) and (self.forges or pattern.startswith("own"))
        return [
            number,
            pattern,
            chance.pick(_GROUPS),
            serves,
            chance.one_in(6),
            prefetch,
            chance.one_in(2),
        ]

    def _subscribe(self) -> bytes:
        return self.control(1, *self.subscription())

    def some_subscription(self) -> int:
        chance = self.chance
        if chance.one_in(8):
            return chance.number()
        return 1 + int(chance.random() * (self.subscriptions + 1))

    def _unsubscribe(self) -> bytes:
        draw = self.chance.random
        kept = [[self.someone(), self.seq(), int(draw() * 3)] for _ in range(int(draw() * 3))]
        return self.control(2, self.some_subscription(), kept)

    def info(self, member: bytes | None = None) -> list[Any]:
        chance = self.chance
        if member is None:
            member = self.someone()
            if chance.one_in(5):
                member = chance.pick((b"", b"short", bytes(17), b"m" * 300))
        pid = chance.number(32) if chance.one_in(2) else chance.pick((0, -1, 2**63))
        return [member, pid, {"role": "x"} if chance.one_in(4) else {}]

    def snapshot(self) -> bytes:
        """How a session begins."""
        chance = self.chance
        few = [int(chance.random() * 4) if chance.one_in(3) else 0 for _ in range(5)]
        return self.control(
            3,
            self.info(self.me),
            [self.subscription() for _ in range(few[0])],
            [self._in_hand() for _ in range(few[1])],
            [[self.seq(), chance.pick(_KEYS)] for _ in range(few[2])],
            {self.someone(): self.seq() for _ in range(few[3])},
            [self.info() for _ in range(few[4])],
        )

    def _in_hand(self) -> list[Any]:
        return [self.believed(), self.seq(), self.chance.pick(_KEYS), self.some_subscription()]

    def _resent(self) -> bytes:
        return self.control(4)

    def _reject(self) -> bytes:
        chance = self.chance
        turn = 1 if chance.one_in(2) else chance.number(16)
        return self.control(5, self.someone(), self.seq(), chance.pick(_KEYS), turn)

    def _took(self) -> bytes:
        return self.control(6, self.some_subscription(), self.someone(), self.seq())

    def _cancel(self) -> bytes:
        return self.control(7, self.seq())

    def _again(self) -> bytes:
        return self.snapshot()

    def _brokers(self) -> bytes:
        """What only a broker says."""
        return self.control(16 + int(self.chance.random() * 12), self.seq())

    def _job(self) -> bytes:
        inner = self.publication(r.PUBLISH, 0, self.topic(), r.NOBODY, [b"job"], numbered=False)
        return bytes(r.encode_job(1, 1, redelivered=False, turn=1, record=inner))

    def _ack(self) -> bytes:
        return r.encode_ack([(1, 5)])

    def _noise(self) -> bytes:
        return bytes((int(self.chance.random() * 8),)) + self.chance.blob(80)


class BrokerSpeaker(Speaker):
    """A hostile broker, towards a member."""

    def __init__(self, chance: Chance, me: bytes, others: list[bytes]) -> None:
        super().__init__(chance, me, others)
        self._numbers = dict.fromkeys([me, *others], 1)
        self._kinds = [
            kind
            for kind, weight in (
                (self._delivery, 24),
                (self._part, 10),
                (self._direct, 10),
                (self._handed, 14),
                (self._acks, 10),
                (self._confirmed, 6),
                (self._gap, 3),
                (self._missed, 3),
                (self._lost, 4),
                (self._ended, 5),
                (self._responders, 4),
                (self._roster, 3),
                (self._joined, 3),
                (self._left, 3),
                (self._without, 2),
                (self._taking, 3),
                (self._subscribe, 1),
                (self._again, 1),
                (self._noise, 2),
            )
            for _ in range(weight)
        ]

    def _from(self, kind: int, flags: int, topic: str, to: bytes, bodies: list[bytes]) -> bytes:
        return self._in_name(lambda: self.publication(kind, flags, topic, to, bodies))

    def _in_name(self, speak: Callable[[], bytes]) -> bytes:
        """What one of the others would say."""
        sender = self.chance.pick(self.others)
        me, self.me = self.me, sender
        self.next = self._numbers.get(sender, 1)
        record = speak()
        self._numbers[sender] = self.next
        self.me = me
        return record

    def _part(self) -> bytes:
        chance = self.chance
        flags = chance.pick(_FLAGS) if chance.one_in(8) else chance.pick((0, 1, 2))
        return self._in_name(lambda: self.mixed(flags, part=True))

    def _delivery(self) -> bytes:
        chance = self.chance
        flags = chance.pick(_FLAGS) if chance.one_in(4) else 0
        return self._from(r.PUBLISH, flags, self.topic(), r.NOBODY, self._bodies())

    def _direct(self) -> bytes:
        chance = self.chance
        flags = chance.pick((4, 16, 16, 32, 32, 0, 255))
        body = chance.blob()
        if flags == 16:
            body = encode_reply(self.seq(), chance.one_in(3), chance.blob())
        elif flags == 32:
            body = encode_done([(self.seq(), chance.pick(_KEYS))])
        return self._from(r.DIRECT, flags, chance.pick(("", "price", "own")), self.me, [body])

    def _handed(self) -> bytes:
        chance = self.chance
        flags = 4 if chance.one_in(3) else 0
        topic = "price" if flags else "jobs"
        inner = self._from(r.PUBLISH, flags, topic, r.NOBODY, [b"job"])
        number = 1 + int(chance.random() * 6) if not chance.one_in(8) else chance.number(32)
        again, turn = chance.one_in(3), chance.number(16)
        return bytes(r.encode_job(number, self.seq(), again, turn, inner))

    def _acks(self) -> bytes:
        chance = self.chance
        ranges = []
        for _ in range(int(chance.random() * 4)):
            first = self.seq()
            ranges.append((first, first + int(chance.random() * 4)))
        if chance.one_in(8):
            ranges.append((chance.number(), chance.number()))
        ranges = [(first % 2**64, last % 2**64) for first, last in ranges]
        return r.encode_ack(ranges)

    def _confirmed(self) -> bytes:
        return self.control(
            16, self.seq() if self.chance.one_in(3) else 1 + int(self.chance.random() * 6)
        )

    def _gap(self) -> bytes:
        return self.control(17, self.someone(), self.seq())

    def _missed(self) -> bytes:
        chance = self.chance
        count = chance.pick((1, 5, 0, -1, -5, 2**63))
        return self.control(18, {self.topic(): count for _ in range(1 + int(chance.random() * 2))})

    def _lost(self) -> bytes:
        return self.control(19, self.someone(), self.seq(), self.chance.pick(_KEYS))

    def _ended(self) -> bytes:
        return self.control(20, self.seq(), self.chance.pick((1, 2, 3, 0, 4, -1, 2**63)))

    def _responders(self) -> bytes:
        return self.control(21, self.seq(), [self.someone(), self.someone()])

    def _roster(self) -> bytes:
        return self.control(22, [self.info() for _ in range(int(self.chance.random() * 4))])

    def _joined(self) -> bytes:
        return self.control(23, self.info())

    def _left(self) -> bytes:
        return self.control(24, self.someone())

    def _without(self) -> bytes:
        return self.control(25, {self.someone(): self.seq()})

    def _taking(self) -> bytes:
        return self.control(26, self.seq())


# --- frames ---------------------------------------------------------------------------------------


def frame(kind: int, number: int = 0, ack: int = 0, payload: bytes = b"", flags: int = 0) -> bytes:
    """A frame of any fields."""
    return HEADER.pack(len(payload), kind, flags, number, ack) + payload


def messages(bodies: list[bytes], ack: int = 0) -> bytes:
    """A MESSAGES frame."""
    return frame(Kind.MESSAGES, len(bodies), ack, pack(bodies))


def hello(chance: Chance, member: bytes, counter: int, hosting: int, received: int) -> bytes:
    """A hello; one in five is wrong somewhere."""
    fields = Hello("b", member, counter, hosting, received, 1 << 22, 1 << 26)
    if chance.one_in(5):
        name = chance.pick(("service", "hosting", "received", "window", "max_message"))
        odd: dict[str, Any] = {name: chance.number() if name != "service" else "l"}
        fields = fields._replace(**odd)
    data = encode_hello(fields)
    if chance.one_in(12):
        return chance.mutate(data)
    if chance.one_in(20):
        return frame(Kind.HELLO, chance.number(32), MAGIC, data[HEADER.size :])
    return data


def welcome(chance: Chance, hosting: int, received: int, *, resumed: bool) -> bytes:
    """A welcome; one in five is wrong somewhere."""
    fields = Welcome(hosting, 1, bytes(16), 1, resumed, received, 1 << 22, 1 << 26)
    if chance.one_in(5):
        name = chance.pick(("hosting", "received", "window", "max_message", "epoch"))
        odd: dict[str, Any] = {name: chance.number()}
        fields = fields._replace(**odd)
    data = encode_welcome(fields)
    return chance.mutate(data) if chance.one_in(12) else data


VERSIONS = (VERSION, 0, 2, 99)
