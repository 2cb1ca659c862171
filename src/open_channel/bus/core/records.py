"""Records: what a member and the broker say to each other; each is one message of their session.

A *publication* is some messages to one topic, or to one member. The publisher writes it once, and
the broker hands the same bytes on to every subscriber:

    kind u8 | flags u8 | length of topic u16 | count u32 | first seq u64 | sender 16 | to 16
    topic | length of each message u32 ... | the messages, joined

A publisher numbers its messages 1, 2, 3, ... through all hosts. A *job* is one message of a
publication, handed to one member of a group. An *acknowledgement* is a list of ranges. Everything
else is a control record: MessagePack of one of the structs below.
"""

from __future__ import annotations

from array import array
from enum import IntEnum, IntFlag
from struct import Struct, error
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from open_channel.arguments import check_labels
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import LARGE, LENGTH, Large, Message, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ACK",
    "CONTROL",
    "DIRECT",
    "ENCODED",
    "HEADER",
    "JOB",
    "JOB_SIZE",
    "MIXED",
    "NOBODY",
    "NUMBERS",
    "PUBLISH",
    "RESENT",
    "TAKING",
    "Cancel",
    "Confirmed",
    "Control",
    "Delivery",
    "End",
    "Ended",
    "Flag",
    "Gap",
    "Job",
    "Joined",
    "Left",
    "Lost",
    "MemberInfo",
    "Missed",
    "Publication",
    "Reject",
    "Resent",
    "Responders",
    "Roster",
    "Snapshot",
    "Subscribe",
    "Taking",
    "Took",
    "Unsubscribe",
    "Without",
    "decode_ack",
    "decode_control",
    "decode_job",
    "encode_ack",
    "encode_control",
    "encode_job",
    "encode_publication",
    "mark_resent",
    "parse",
]

PUBLISH, DIRECT, JOB, ACK, CONTROL, MIXED = 1, 2, 3, 4, 5, 6
"""The kinds: a publication to a topic, one to a member, a job, acknowledgements, control; and a
publication to several topics, see ``mixed``."""

NOBODY = bytes(16)
"""The addressee of what goes to a topic."""

HEADER = Struct("=BBHIQ16s16s")
_HEADER, _unpack_header = HEADER.size, HEADER.unpack_from
_JOB = Struct("=BBHIQ")
JOB_SIZE = _JOB.size
"""What a job takes beside its publication, in bytes."""

_ONE_ACK = Struct("=B7xQQ")
NUMBERS = 1 << 63
"""Of messages: they travel as 64 bits, and so does what is made of them."""

_ID = len(NOBODY)


class Flag(IntFlag):
    """The flags of a publication."""

    ENCODED = 1
    """The messages went through the codec; else they are the user's own bytes."""
    RESENT = 2
    """It was sent to an earlier host."""
    REQUEST = 4
    """The sender waits for a reply."""
    EVERYONE = 8
    """... from every responder."""
    REPLY = 16
    """A reply; see ``answers``."""
    DONE = 32
    """Jobs that are done; see ``answers``."""
    TAKING = 64
    """It was sent to an earlier host, which has told that only groups wait for it still."""


ENCODED, RESENT, TAKING = int(Flag.ENCODED), int(Flag.RESENT), int(Flag.TAKING)


class Publication(NamedTuple):
    """A publication's header, and where its messages begin."""

    record: Message
    """All of it, to be handed on."""
    data: bytes | memoryview
    """... to be looked into."""
    flags: int
    topic: str
    total: int
    first: int
    last: int
    """The number of its last message."""
    sender: bytes
    to: bytes
    start: int

    def messages(self) -> list[bytes]:
        """Its messages, each as bytes of its own; raises RemoteProtocolError."""
        if isinstance(self.record, Large) and (rest := self.record.pieces[1:]):
            (body,) = rest
            if LENGTH.unpack_from(self.data, self.start)[0] != len(body):
                raise RemoteProtocolError(reason=f"a message of other than {len(body)} bytes")
            return [bytes(body)]
        return unpack(memoryview(self.data)[self.start :], self.total)

    def opening(self, size: int) -> bytes:
        """The first bytes of its only message."""
        start = self.start + LENGTH.size
        if isinstance(self.record, Large) and (rest := self.record.pieces[1:]):
            return bytes(rest[0][:size])
        return bytes(self.data[start : start + size])


# Half the time of the class's own constructor.
_new = cast(
    "Callable[[type[Publication], tuple[object, ...]], Publication]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)


def encode_publication(
    kind: int, flags: int, topic: bytes, first: int, sender: bytes, to: bytes, bodies: list[bytes]
) -> Message:
    """A publication as one record."""
    header = HEADER.pack(kind, flags, len(topic), len(bodies), first, sender, to)
    if len(bodies) == 1:
        (body,) = bodies
        pieces = header, topic, LENGTH.pack(len(body))
        if len(body) > LARGE:
            return Large(b"".join(pieces), body)
        return b"".join((*pieces, body))
    return b"".join([header, topic, array("I", map(len, bodies)), *bodies])


def parse(record: Message) -> Publication:
    """The header of what was received; raises RemoteProtocolError when it is none."""
    data: bytes | memoryview
    if isinstance(record, bytes):
        data, rest = record, 0
    else:
        data, rest = record.head, len(record.pieces) - 1
    try:
        _, flags, size, count, first, sender, to = _unpack_header(data)
    except error:
        raise RemoteProtocolError(reason=f"a publication of {len(data)} bytes") from None
    start = _HEADER + size
    if not count or not 0 < first < NUMBERS - count or start + 4 * count > len(data):
        raise RemoteProtocolError(reason=f"a publication of {count} messages, number {first}")
    if rest and (rest > 1 or count > 1 or start + 4 != len(data)):
        raise RemoteProtocolError(reason=f"{count} messages of which one lies elsewhere")
    try:
        topic = str(data[_HEADER:start], "utf-8")
    except UnicodeDecodeError as reason:
        raise RemoteProtocolError(reason=f"a topic that is no text: {reason}") from None
    last = first + count - 1
    return _new(Publication, (record, data, flags, topic, count, first, last, sender, to, start))


def mark_resent(record: Message, *, taking: bool = False) -> Message:
    """The same publication, marked as sent to an earlier host; ``taking``: see the flag."""
    flags = bytes((record[1] | RESENT | (TAKING if taking else 0),))
    if isinstance(record, bytes):
        return record[:1] + flags + record[2:]
    head, *rest = record.pieces
    marked = b"".join((head[:1], flags, head[2:]))
    return Large(marked, *rest, place=record.place)


class Delivery(NamedTuple):
    """A job as its consumer gets it."""

    subscription: int
    seq: int
    redelivered: bool
    turn: int
    """How often this host has handed it out."""
    publication: Publication
    """Of the one message."""


def encode_job(
    subscription: int, seq: int, redelivered: bool, turn: int, record: Message
) -> Message:
    """``record`` is a publication of the one message."""
    header = _JOB.pack(JOB, redelivered, turn, subscription, seq)
    if isinstance(record, bytes):
        return header + record
    return Large(header, *record.pieces, place=record.place)


def decode_job(record: Message) -> Delivery:
    """Raises RemoteProtocolError when it is none."""
    head = record if isinstance(record, bytes) else record.head
    if len(head) < JOB_SIZE:
        raise RemoteProtocolError(reason=f"a job of {len(head)} bytes")
    _, redelivered, turn, subscription, seq = _JOB.unpack_from(head)
    if isinstance(record, bytes):
        publication = parse(record[JOB_SIZE:])
    else:
        # It may have come to the broker as one piece, and go on as one behind the job's header.
        pieces = (head[JOB_SIZE:], *record.pieces[1:])
        publication = parse(Large(*(piece for piece in pieces if len(piece))))
    return Delivery(subscription, seq, bool(redelivered), turn, publication)


def encode_ack(ranges: list[tuple[int, int]]) -> bytes:
    """``ranges`` are (first, last) numbers, both included."""
    if len(ranges) == 1:
        return _ONE_ACK.pack(ACK, *ranges[0])
    return (
        bytes((ACK, 0, 0, 0, 0, 0, 0, 0))
        + array("Q", [number for pair in ranges for number in pair]).tobytes()
    )


def decode_ack(record: Message) -> list[tuple[int, int]]:
    """Raises RemoteProtocolError when it is none."""
    record = bytes(record)
    if len(record) == _ONE_ACK.size:
        _, first, last = _ONE_ACK.unpack(record)
        return [(first, last)]
    if len(record) % 16 != 8:
        raise RemoteProtocolError(reason=f"acknowledgements in {len(record)} bytes")
    numbers = memoryview(record)[8:].cast("Q").tolist()
    return list(zip(numbers[::2], numbers[1::2], strict=True))


# --- control records --------------------------------------------------------------------------


class MemberInfo(msgspec.Struct, array_like=True, frozen=True):
    """Who a member is."""

    id: bytes
    pid: int
    labels: dict[str, str]

    def __post_init__(self) -> None:
        """Files and headers are made for ids of one size; and everybody is told the labels."""
        if len(self.id) != _ID:
            raise ValueError(f"a member's id of {len(self.id)} bytes")
        if self.labels:
            check_labels(self.labels)


class Subscribe(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A subscription begins; also how a snapshot lists it."""

    id: int
    """Counts the member's subscriptions; never used again."""
    pattern: str
    group: str = ""
    """Empty: every message, as a plain subscriber."""
    serves: bool = False
    """A responder: it gets the requests."""
    blocks: bool = False
    """``overflow="block"``: a publisher waits until the consumer has taken a message."""
    prefetch: int = 1
    """How many jobs it may have in hand."""
    confirmed: bool = False
    """Whether an earlier host has confirmed it."""


class Unsubscribe(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A subscription ends; ``kept`` are the jobs, (publisher, seq, turn), that its consumer still
    works on: one that was taken from it, and is on its way to it again, is not.
    """

    id: int
    kept: list[tuple[bytes, int, int]]


class Job(msgspec.Struct, array_like=True, frozen=True):
    """A job in somebody's hands."""

    publisher: bytes
    seq: int
    group: str
    subscription: int


class Snapshot(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """All that a member tells a new host; its unacknowledged publications follow."""

    info: MemberInfo
    subscriptions: list[Subscribe]
    jobs: list[Job]
    """What it has in hand."""
    done: list[tuple[int, str]]
    """(seq, group) of its own publications that are known to be done."""
    without: dict[bytes, int]
    """{member: highest seq of ours that was acknowledged without it}."""
    roster: list[MemberInfo]
    """Of those that no roster named yet, the id alone is known."""
    lineage: int = 0
    """Of the roster; see there."""


class Resent(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """All unacknowledged publications have been sent again: the member is back."""


class Reject(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """A job goes back, to be given to whoever is next."""

    publisher: bytes
    seq: int
    group: str
    turn: int
    """Of the job as it was handed out; 0 when that was an earlier host's doing."""


class Took(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """The consumer of a blocking subscription has taken a publisher's messages up to ``seq``."""

    id: int
    publisher: bytes
    seq: int


class Cancel(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """Nobody waits for the reply to this request any more."""

    seq: int


class Confirmed(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """A subscription is live: all that is published from now on will reach it."""

    id: int


class Gap(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """An earlier host acknowledged the publisher's messages up to ``seq`` without this member."""

    publisher: bytes
    seq: int


class Missed(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """So many messages of a topic were dropped, because the queue for this member was full."""

    topics: dict[str, int]


class Lost(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """A job was given to another: this member was out of touch for too long."""

    publisher: bytes
    seq: int
    group: str


class End(IntEnum):
    """Why a request has ended without a reply."""

    NOBODY = 1
    DIED = 2
    GONE = 3


class Ended(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """A request ends without a reply."""

    seq: int
    why: End


class Responders(msgspec.Struct, array_like=True, frozen=True, tag=21):
    """Who got a request to all."""

    seq: int
    members: list[bytes]


class Roster(msgspec.Struct, array_like=True, frozen=True, tag=22):
    """Who is here: who is not in it is dead or has left."""

    members: list[MemberInfo]
    lineage: int = 0
    """Of the lock file (see ``HostRecord``) beside which all of them have files; 0 while some may
    have none, since the directory was deleted and they are not back."""


class Joined(msgspec.Struct, array_like=True, frozen=True, tag=23):
    """A member has come."""

    member: MemberInfo


class Left(msgspec.Struct, array_like=True, frozen=True, tag=24):
    """A member is dead or has left."""

    member: bytes


class Without(msgspec.Struct, array_like=True, frozen=True, tag=25):
    """See ``Snapshot.without``; replaces what was known."""

    members: dict[bytes, int]


class Taking(msgspec.Struct, array_like=True, frozen=True, tag=26):
    """The rest of a publication is only with groups: it counts as jobs from now on."""

    first: int


Control = (
    Subscribe
    | Unsubscribe
    | Snapshot
    | Resent
    | Reject
    | Took
    | Cancel
    | Confirmed
    | Gap
    | Missed
    | Lost
    | Ended
    | Responders
    | Roster
    | Joined
    | Left
    | Without
    | Taking
)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Control).decode
_CONTROL = bytes((CONTROL,))
# Not all that msgspec raises is its own: text that is no UTF-8, and what is nested without end.
UNDECODABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def encode_control(record: Control) -> bytes:
    """One control record."""
    return _CONTROL + _encode(record)


def decode_control(record: Message) -> Control:
    """Raises RemoteProtocolError when it is none."""
    try:
        control: Control = _decode(memoryview(bytes(record))[1:])
    except UNDECODABLE as reason:
        raise RemoteProtocolError(reason=f"a control record: {reason}") from None
    return control
