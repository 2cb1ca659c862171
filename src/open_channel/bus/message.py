"""What a subscriber gets: messages, batches of them, and jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from open_channel.bus.core import codec
from open_channel.bus.core.records import ENCODED
from open_channel.live import Live

if TYPE_CHECKING:
    from open_channel.bus.core.mixed import AnyPublication

__all__ = ["OBJECT", "Batch", "Job", "M_co", "Message", "Mix", "Origin", "Origins", "size_of"]

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
    _finish: Callable[[Job, bool], None]
    lost: bool = False
    """Whether it was given to another consumer, because this one was out of touch too long or its
    subscription has ended."""

    _instead = "finish it here, and pass on its data"
    __copy__ = Live.__reduce__  # a Struct has one of its own

    @property
    def key(self) -> tuple[bytes, int]:
        """What identifies it: its publisher and its number."""
        return self._of.publisher, self.number

    def ack(self) -> None:
        """It is done; again is harmless.

        Asking for the next job does this by itself, unless ``ack="manual"`` was said. Can be called
        from any thread. Raises JobLost when it is this consumer's no more (see ``lost``), and what
        closed the channel.
        """
        self._finish(self, True)

    def reject(self) -> None:
        """Give it back: another consumer gets it, or this one again; again is harmless.

        Raises JobLost as ``ack()`` does.
        """
        self._finish(self, False)


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

    @property
    def publisher(self) -> bytes:
        """The member that published them, 16 bytes."""
        return self.origins[0].publisher

    def __len__(self) -> int:
        return len(self.bodies)

    def __iter__(self) -> Iterator[Message]:
        """The messages."""
        return map(Message, self.origins, self.bodies, chain((self.missed,), repeat(0)))

    def batches(self, left: int) -> Iterator[Batch]:
        """The last ``left`` of them as batches, one for each time that the topic changes."""
        taken = len(self) - left
        missed = 0 if taken else self.missed
        before: Origin | None = None
        some: list[bytes] = []
        # One after the other: what many made at once cost is the collector's time.
        for origin, body in zip(self.origins[taken:], self.bodies[taken:], strict=True):
            if origin is not before:
                if before is not None:
                    yield Batch(before, some, self.last, size_of(some), missed)
                    missed = 0
                before, some = origin, []
            some.append(body)
        if before is not None:
            yield Batch(before, some, self.last, size_of(some), missed)


def size_of(bodies: Sequence[bytes]) -> int:
    """What messages take in memory, in bytes, or so."""
    return sum(map(len, bodies)) + OBJECT * len(bodies)
