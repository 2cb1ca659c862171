"""What a subscriber gets: messages, batches of them, and jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from open_channel.bus.core import codec
from open_channel.bus.core.records import ENCODED
from open_channel.errors import JobLost
from open_channel.live import Live

if TYPE_CHECKING:
    from open_channel.bus.core.mixed import AnyPublication

__all__ = [
    "OBJECT",
    "Batch",
    "Job",
    "M_co",
    "Message",
    "Mix",
    "Origin",
    "Origins",
    "last_of",
    "size_of",
]

OBJECT = 64
"""Bytes that a message takes beside its own, or so."""

_TOPICS = 10_000  # of a publisher that are remembered at most
_PUBLISHERS = 64  # ... whose topics are

_UNDECODED = msgspec.UNSET  # which stays the same object in a copy, and when it was pickled


class Origin(msgspec.Struct, eq=False):
    """What messages of a publisher to one topic have in common."""

    topic: str
    publisher: bytes
    encoded: bool
    """Whether they were anything but bytes."""
    type: Any
    """What their data decodes into; None: plain data."""


# A subscriber of a stream makes a million of these a second. A Struct is made without any call of
# Python's: with its place in a batch and a loop that takes it, 172 ns, where a class with slots
# takes 320.
class Message(msgspec.Struct, eq=False):
    """One message as its subscriber gets it."""

    _of: Origin
    body: bytes
    """The bytes as they travelled."""
    missed: int = 0
    """How many messages this subscription lost just before this one; -1: nobody knows how many.
    Zero unless the subscriber was too slow, or out of touch for too long."""
    redelivered: bool = False
    """Whether somebody may have worked on it before. Of jobs and requests only."""
    _data: Any = _UNDECODED

    @property
    def topic(self) -> str:
        """Where it was published."""
        return self._of.topic

    @property
    def sender(self) -> str:
        """The id of the member that published it, 32 hexadecimal digits."""
        return self._of.publisher.hex()

    @property
    def data(self) -> Any:
        """What was published: bytes as they were, anything else decoded (once).

        Raises PayloadInvalid when it does not fit the subscription's ``type``.
        """
        if self._data is _UNDECODED:
            of = self._of
            self._data = codec.decode(self.body, of.encoded, of.type, of.topic, self.sender)
        return self._data

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.topic!r}, {len(self.body)} bytes>"


class Job(Live, Message, kw_only=True):
    """One message of a group: this member's to work on."""

    number: int
    """The one that its publisher gave it."""
    _finish: Callable[[Job, bool], bool]
    """Says what became of it; false when that was said before."""
    lost: bool = False
    """Whether it was given to another consumer, because this one was out of touch too long or its
    subscription has ended."""

    _rejected: bool = False

    _instead = "finish it here, and pass on its data"
    __copy__ = Live.__reduce__  # a Struct has one of its own

    @property
    def key(self) -> tuple[bytes, int]:
        """What identifies it: its publisher and its number."""
        return self._of.publisher, self.number

    def ack(self) -> None:
        """It is done; again is harmless.

        Asking for the next job does this by itself, unless ``ack="manual"`` was said. Can be called
        from any thread. Raises JobLost when it is this consumer's no more (see ``lost``), or was
        rejected, and what closed the channel.
        """
        if not self._finish(self, True) and (self.lost or self._rejected):
            raise self._no_more()

    def reject(self) -> None:
        """Give it back: another consumer gets it, or this one again; again is harmless.

        After ``ack()`` it changes nothing. Raises JobLost when it is this consumer's no more
        (see ``lost``), and what closed the channel.
        """
        if self._finish(self, False):
            self._rejected = True
        elif self.lost:
            raise self._no_more()

    def _no_more(self) -> JobLost:
        return JobLost(topic=self.topic, publisher=self.sender, number=self.number)


if TYPE_CHECKING:
    import typing_extensions

    # The default lets annotations say ``Subscription`` alone; at run time 3.13 is the first to
    # have one.
    M_co = typing_extensions.TypeVar("M_co", bound=Message, default=Message, covariant=True)
else:
    M_co = TypeVar("M_co", bound=Message, covariant=True)
"""What a subscription yields: messages, or jobs."""


class Batch(msgspec.Struct, eq=False):
    """Messages of one publisher to one topic that came together; for consumers that want speed."""

    _of: Origin
    bodies: Sequence[bytes]
    """The bytes as they travelled, one for each message."""
    last: int
    """The number that the publisher gave the last of them."""
    size: int
    """What they take in memory, in bytes, or so."""
    missed: int = 0
    """How many messages this subscription lost just before; see ``Message``."""

    @property
    def topic(self) -> str:
        """Where they were published."""
        return self._of.topic

    @property
    def publisher(self) -> bytes:
        """The member that published them, 16 bytes."""
        return self._of.publisher

    @property
    def sender(self) -> str:
        """The id of the member that published them, 32 hexadecimal digits."""
        return self._of.publisher.hex()

    def __len__(self) -> int:
        return len(self.bodies)

    def __iter__(self) -> Iterator[Message]:
        """The messages."""
        missed = chain((self.missed,), repeat(0))
        return map(Message, repeat(self._of), self.bodies, missed)

    def __repr__(self) -> str:
        return f"<Batch {self.topic!r}, {len(self.bodies)} messages>"


class _ByTopic(dict[str, Origin]):
    """Those of one publisher."""

    def __init__(self, publisher: bytes, encoded: bool, wanted: Any) -> None:
        super().__init__()
        self._common = publisher, encoded, wanted

    def __missing__(self, topic: str) -> Origin:
        origin = self[topic] = Origin(topic, *self._common)
        return origin


class Origins:
    """Those of one subscription: what comes again from the same place makes none anew."""

    def __init__(self, wanted: Any) -> None:
        self._wanted = wanted
        self._known: dict[tuple[bytes, int], _ByTopic] = {}

    def of(self, publication: AnyPublication) -> Mapping[str, Origin]:
        """Of messages that came in this one, by topic."""
        key = publication.sender, publication.flags & ENCODED
        known = self._known.get(key)
        if known is None or len(known) > _TOPICS:
            if len(self._known) >= _PUBLISHERS:
                self._known.clear()
            known = self._known[key] = _ByTopic(key[0], bool(key[1]), self._wanted)
        return known


class Mix(msgspec.Struct, eq=False):
    """Messages of one publisher to several topics that came together."""

    origins: Sequence[Origin]
    """Of each message."""
    bodies: Sequence[bytes]
    last: int
    size: int
    missed: int = 0
    begin: int = 0
    """How many at its beginning are not in it any more."""

    @property
    def publisher(self) -> bytes:
        """The member that published them, 16 bytes."""
        return self.origins[0].publisher

    def __len__(self) -> int:
        return len(self.bodies) - self.begin

    def __iter__(self) -> Iterator[Message]:
        """The messages."""
        origins, bodies = iter(self.origins), iter(self.bodies)
        if self.begin:
            origins, bodies = islice(origins, self.begin, None), islice(bodies, self.begin, None)
        return map(Message, origins, bodies, chain((self.missed,), repeat(0)))

    def split(self) -> tuple[Batch, Mix | None]:
        """Those at its beginning that are to one topic, and the rest, if there is one."""
        origins, begin, length = self.origins, self.begin, len(self.bodies)
        origin = origins[begin]
        end = begin + 1
        while end < length and origins[end] is origin:
            end += 1
        bodies = self.bodies[begin:end]
        batch = Batch(origin, bodies, self.last, size_of(bodies), self.missed)
        # One after the other: what many made at once cost is the collector's time.
        return batch, _last_ones(self, length - end, 0) if end < length else None


def _last_ones(mix: Mix, count: int, missed: int) -> Mix:
    """They share their memory with all of them, and so have no size."""
    return Mix(mix.origins, mix.bodies, mix.last, 0, missed, len(mix.bodies) - count)


def last_of(batch: Batch | Mix, rest: Sequence[Message]) -> Batch | Mix:
    """What was not taken, ``rest``, of one whose messages were taken one by one."""
    if isinstance(batch, Mix):
        return _last_ones(batch, len(rest), rest[0].missed)
    batch.bodies, batch.missed = [message.body for message in rest], rest[0].missed
    return batch


def size_of(bodies: Sequence[bytes]) -> int:
    """What messages take in memory, in bytes, or so."""
    return sum(map(len, bodies)) + OBJECT * len(bodies)
