"""Mixed publications: messages to several topics that a member published one after the other.

To publishers and the broker one is what a publication to one topic is: numbered, kept, routed and
acknowledged as a whole. It names each of its topics once:

    kind u8 | flags u8 | zeros u16 | count u32 | first seq u64 | sender 16 | span u32
    | size of topics u32
    topics, a newline between two | which of them each message is to u16 ...
    | length of each message u32 ... | the messages, joined

Who subscribes to all of its topics gets these bytes, anybody else a record of those messages that
he wants, with the same numbers: ``span`` says how many there were in all. So whoever has received
some of its messages has received all that he is to get, from whichever host.
"""

from __future__ import annotations

from array import array
from itertools import chain, count, repeat
from struct import Struct, error
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from open_channel.bus.core.records import (
    ENCODED,
    MIXED,
    NOBODY,
    NUMBERS,
    RESENT,
    TAKING,
    Publication,
)
from open_channel.bus.core.subjects import MANY, matches_each
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import BATCH_LIMIT, OVERHEAD, unpack

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from open_channel.protocol.batches import Message

__all__ = [
    "MIXED_HEADER",
    "AnyPublication",
    "Mixed",
    "by_value",
    "count_topics",
    "encode_mixed",
    "parse_mixed",
    "singles",
]

MIXED_HEADER = Struct("=BBHIQ16sII")
_HEADER = MIXED_HEADER.size
_NAMED = 2  # bytes that say which topic a message is to
_FLAGS = ENCODED | RESENT | TAKING

_Value = TypeVar("_Value")
_Key = TypeVar("_Key", bound="Hashable")


class Mixed:
    """A mixed publication, or what one member gets of it."""

    __slots__ = (
        "_bodies",
        "_places",
        "data",
        "first",
        "flags",
        "last",
        "sender",
        "start",
        "topics",
        "total",
        "which",
    )

    topic = MANY
    """Where it goes, as far as one pattern can tell."""
    to = NOBODY

    def __init__(
        self,
        record: bytes,
        flags: int,
        topics: Sequence[str],
        which: Sequence[int],
        numbers: tuple[int, int],
        sender: bytes,
        start: int,
    ) -> None:
        self.data = record
        self.flags = flags
        self.topics = topics
        """Each of them once."""
        self.which = which
        """Of each message: which of these it is to."""
        self.total = len(which)
        self.first, self.last = numbers
        self.sender = sender
        self.start = start
        """Where the lengths begin."""
        self._bodies: list[bytes] = []
        self._places: list[list[int]] = []

    @property
    def record(self) -> bytes:
        """All of it, to be handed on."""
        return self.data

    def messages(self) -> list[bytes]:
        """Its messages, each as bytes of its own; raises RemoteProtocolError."""
        if not self._bodies:
            self._bodies = unpack(memoryview(self.data)[self.start :], self.total)
        return self._bodies

    def topic_of(self, seq: int) -> str:
        """Where a message went, by its number; of a whole one."""
        return self.topics[self.which[seq - self.first]]

    def _positions(self, wanted: Sequence[int]) -> list[int]:
        """Which messages are to some of the topics."""
        if not self._places:
            places: list[list[int]] = [[] for _ in self.topics]
            for position, index in enumerate(self.which):
                places[index].append(position)
            self._places = places
        if len(wanted) == 1:
            return self._places[wanted[0]]
        return sorted(chain.from_iterable([self._places[index] for index in wanted]))

    def only(self, wanted: Sequence[int]) -> Mixed:
        """What is to some of its topics, by their places in ``topics``, in order."""
        if len(wanted) == len(self.topics):
            return self
        positions = self._positions(wanted)
        bodies, which = self.messages(), self.which
        renamed = dict(zip(wanted, count(), strict=False))
        topics = [self.topics[index] for index in wanted]
        named = [renamed[which[position]] for position in positions]
        numbers = self.first, self.last
        picked = [bodies[position] for position in positions]
        record, start = _join(
            self.flags, "\n".join(topics).encode(), named, numbers, self.sender, picked
        )
        return Mixed(record, self.flags, topics, named, numbers, self.sender, start)

    def shares(
        self, found: Mapping[tuple[_Value, ...], Sequence[int]]
    ) -> Iterator[tuple[_Value, list[str], list[bytes]]]:
        """For each of those who want something: the topic of each message he gets, and these.

        ``found`` says who wants which topics.
        """
        wanted: dict[_Value, list[int]] = {}
        for values, indices in found.items():
            for value in values:
                wanted.setdefault(value, []).extend(indices)
        bodies = self.messages()
        every = [self.topics[index] for index in self.which]
        for value, some in wanted.items():
            if len(some) == len(self.topics):
                yield value, every, bodies
            else:
                positions = self._positions(some)
                yield value, [every[at] for at in positions], [bodies[at] for at in positions]


AnyPublication: TypeAlias = Publication | Mixed


def encode_mixed(
    flags: int, topics: Sequence[bytes], first: int, sender: bytes, bodies: Sequence[bytes]
) -> bytes:
    """A mixed publication of as many messages, each with its topic, as one record."""
    table = dict(zip(dict.fromkeys(topics), count(), strict=False))
    which = [table[topic] for topic in topics]
    numbers = first, first + len(bodies) - 1
    return _join(flags, b"\n".join(table), which, numbers, sender, bodies)[0]


def _join(
    flags: int,
    topics: bytes,
    which: Sequence[int],
    numbers: tuple[int, int],
    sender: bytes,
    bodies: Sequence[bytes],
) -> tuple[bytes, int]:
    """The record, and where its lengths begin."""
    total, (first, last) = len(bodies), numbers
    header = MIXED_HEADER.pack(MIXED, flags, 0, total, first, sender, last - first + 1, len(topics))
    record = b"".join([header, topics, array("H", which), array("I", map(len, bodies)), *bodies])
    return record, _HEADER + len(topics) + _NAMED * total


def parse_mixed(record: Message) -> Mixed:
    """What was received; raises RemoteProtocolError when it is none.

    Whether the lengths fit the messages shows when they are taken apart.
    """
    if len(record) > BATCH_LIMIT:
        raise RemoteProtocolError(reason=f"a mixed publication of {len(record)} bytes")
    data = bytes(record)
    try:
        _, flags, zeros, total, first, sender, span, size = MIXED_HEADER.unpack_from(data)
    except error:
        raise RemoteProtocolError(reason=f"a mixed publication of {len(data)} bytes") from None
    if flags & ~_FLAGS or zeros:
        raise RemoteProtocolError(reason=f"a mixed publication with flags {flags:#x}, {zeros}")
    end = _HEADER + size
    start = end + _NAMED * total
    if (
        not 0 < total <= span
        or not 0 < first < NUMBERS - span
        or start + OVERHEAD * total > len(data)
    ):
        raise RemoteProtocolError(reason=f"{total} mixed messages of {span}, number {first}")
    try:
        topics = str(data[_HEADER:end], "utf-8").split("\n")
    except UnicodeDecodeError as reason:
        raise RemoteProtocolError(reason=f"topics that are no text: {reason}") from None
    which = memoryview(data)[end:start].cast("H").tolist()
    # With none left over nobody is sent a record without messages.
    if len(set(which)) != len(topics) or max(which) >= len(topics):
        raise RemoteProtocolError(reason="mixed messages that do not fit their topics")
    return Mixed(data, flags, topics, which, (first, first + span - 1), sender, start)


def count_topics(record: Message) -> Mapping[str, int]:
    """How many messages to each of its topics there are in a mixed publication."""
    mixed = parse_mixed(record)
    counts = dict.fromkeys(mixed.topics, 0)
    for index in mixed.which:
        counts[mixed.topics[index]] += 1
    return counts


def singles(publication: AnyPublication, pattern: str) -> Iterable[tuple[int, str, bytes]]:
    """The number, the topic and the message, of each that a pattern fits.

    It does fit a publication to one topic.
    """
    numbered = count(publication.first)
    if not isinstance(publication, Mixed):
        return zip(numbered, repeat(publication.topic), publication.messages(), strict=False)
    fits = matches_each(pattern, publication.topics)
    topics, which = publication.topics, publication.which
    each = zip(numbered, which, publication.messages(), strict=False)
    return [(seq, topics[index], message) for seq, index, message in each if fits[index]]


def by_value(values: Sequence[_Key]) -> dict[_Key, Sequence[int]]:
    """Where in a sequence each of its values is."""
    first = values[0]
    if values.count(first) == len(values):  # as mostly: a tenth of the time
        return {first: range(len(values))}
    found: dict[_Key, list[int]] = {}
    for index, value in enumerate(values):
        places = found.get(value)
        if places is None:
            found[value] = [index]
        else:
            places.append(index)
    return dict(found)
