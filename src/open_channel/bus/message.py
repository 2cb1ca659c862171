"""What a subscriber gets: messages, batches of them, and jobs."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from open_channel.bus.core import codec
from open_channel.bus.core.records import ENCODED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from open_channel.bus.core.mixed import Mixed
    from open_channel.bus.core.records import Publication

__all__ = ["Batch", "Job", "Message", "Mix", "Origin", "Origins", "Request"]

_OVERHEAD = 64  # bytes that a message takes beside its own, or so


_UNDECODED = object()


class Message:
    """One message as its subscriber gets it."""

    # A subscriber of a stream makes a million of these a second: what all messages of a batch have
    # in common stays with the batch.
    __slots__ = ("_data", "_of", "body", "missed")

    def __init__(self, of: Batch | Origin, body: bytes, missed: int = 0) -> None:
        self._of = of
        self.body = body
        """The bytes as they travelled."""
        self.missed = missed
        """How many messages this subscription lost just before this one; -1: nobody knows how
        many. Zero unless the subscriber was too slow, or out of touch for too long."""
        self._data: Any = _UNDECODED

    @property
    def topic(self) -> str:
        """Where it was published."""
        return self._of.topic

    @property
    def sender(self) -> str:
        """The id of the member that published it, 32 hexadecimal digits."""
        return self._of.publisher.hex()

    @property
    def redelivered(self) -> bool:
        """Whether somebody may have worked on it before. Of jobs and requests only."""
        return False

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


class Request(Message):
    """A request as its responder gets it."""

    __slots__ = ("_redelivered",)

    def __init__(self, of: Batch, body: bytes, redelivered: bool) -> None:
        super().__init__(of, body)
        self._redelivered = redelivered

    @property
    def redelivered(self) -> bool:
        """Whether another responder may have begun with it, which has died since."""
        return self._redelivered


class Job(Request):
    """One message of a group: this member's to work on."""

    __slots__ = ("_finish", "_seq", "lost")

    def __init__(
        self,
        of: Batch,
        body: bytes,
        seq: int,
        redelivered: bool,
        finish: Callable[[Job, bool], None],
    ) -> None:
        super().__init__(of, body, redelivered)
        self._seq = seq
        self._finish = finish
        self.lost = False
        """Whether it was given to another consumer, because this one was out of touch too long or
        its subscription has ended."""

    @property
    def key(self) -> tuple[bytes, int]:
        """What identifies it: its publisher and its number."""
        return self._of.publisher, self._seq

    def ack(self) -> None:
        """It is done; again is harmless.

        Asking for the next job does this by itself. Can be called from any thread. Raises JobLost
        when it was given to another consumer meanwhile (see ``lost``), and what closed the channel.
        """
        self._finish(self, True)

    def reject(self) -> None:
        """Give it back: another consumer gets it, or this one again; again is harmless.

        Raises JobLost as ``ack()`` does.
        """
        self._finish(self, False)


class Origin:
    """What messages of a publisher to one topic have in common: see ``Batch``."""

    __slots__ = ("encoded", "publisher", "topic", "type")

    def __init__(self, topic: str, publisher: bytes, encoded: bool, wanted: Any) -> None:
        self.topic = topic
        self.publisher = publisher
        self.encoded = encoded
        self.type = wanted


class Batch:
    """Messages of one publisher to one topic that came together; for consumers that want speed."""

    __slots__ = ("bodies", "encoded", "last", "missed", "publisher", "size", "topic", "type")

    def __init__(
        self, publication: Publication, bodies: Sequence[bytes], wanted: Any, missed: int = 0
    ) -> None:
        self.topic = publication.topic
        """Where they were published."""
        self.bodies = bodies
        """The bytes as they travelled, one for each message."""
        self.missed = missed
        """How many messages this subscription lost just before; see ``Message``."""
        self.publisher = publication.sender
        """The member that published them, 16 bytes."""
        self.encoded = bool(publication.flags & ENCODED)
        """Whether they were anything but bytes."""
        self.type = wanted
        """What their data decodes into; None: plain data."""
        self.last = publication.last
        """The number that the publisher gave the last of them."""
        self.size = len(publication.record) + _OVERHEAD * len(bodies)
        """What they take in memory, in bytes, or so."""

    @classmethod
    def of(cls, origin: Origin, last: int, bodies: list[bytes], missed: int) -> Batch:
        """Messages that came together with others, to other topics; its size is to be counted."""
        batch = cls.__new__(cls)
        batch.topic, batch.publisher = origin.topic, origin.publisher
        batch.encoded, batch.type = origin.encoded, origin.type
        batch.bodies, batch.missed, batch.last, batch.size = bodies, missed, last, 0
        return batch

    @property
    def sender(self) -> str:
        """The id of the member that published them, 32 hexadecimal digits."""
        return self.publisher.hex()

    def __len__(self) -> int:
        return len(self.bodies)

    def __iter__(self) -> Iterator[Message]:
        """The messages."""
        return map(Message, repeat(self), self.bodies, chain((self.missed,), repeat(0)))

    def __repr__(self) -> str:
        return f"<Batch {self.topic!r}, {len(self.bodies)} messages>"


class Origins(dict[str, Origin]):
    """Those of one publisher, by topic; a stream that goes round its topics makes none anew."""

    def __init__(self, publisher: bytes, encoded: bool, wanted: Any) -> None:
        super().__init__()
        self._common = publisher, encoded, wanted

    def __missing__(self, topic: str) -> Origin:
        origin = self[topic] = Origin(topic, *self._common)
        return origin


class Mix:
    """Messages of one publisher to several topics that came together."""

    __slots__ = ("bodies", "last", "missed", "origins", "publisher", "size")

    def __init__(
        self, mixed: Mixed, origins: Sequence[Origin], bodies: Sequence[bytes], missed: int = 0
    ) -> None:
        self.origins = origins
        """Of each message."""
        self.bodies = bodies
        self.missed = missed
        self.publisher = mixed.sender
        self.last = mixed.last
        self.size = sum(map(len, bodies)) + _OVERHEAD * len(bodies)

    def __len__(self) -> int:
        return len(self.bodies)

    def __iter__(self) -> Iterator[Message]:
        """The messages."""
        return map(Message, self.origins, self.bodies, chain((self.missed,), repeat(0)))

    def batches(self, left: int) -> Iterator[Batch]:
        """The last ``left`` of them as batches, one for each time that the topic changes."""
        taken = len(self) - left
        missed = 0 if taken else self.missed
        batch: Batch | None = None
        before: Origin | None = None
        some: list[bytes] = []
        # One after the other: what many made at once cost is the collector's time.
        for origin, body in zip(self.origins[taken:], self.bodies[taken:], strict=True):
            if batch is None or origin is not before:
                if batch is not None:
                    yield batch
                before, some = origin, []
                batch = Batch.of(origin, self.last, some, missed)
                missed = 0
            some.append(body)
            batch.size += len(body) + _OVERHEAD
        if batch is not None:
            yield batch
