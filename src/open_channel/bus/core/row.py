"""A row: messages that were published one after the other, and are not sent yet.

All of them become one publication: to one topic or, where they change it often, a mixed one.
Whoever publishes a message may append it himself, on credit: that takes a third of the time of a
call for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core.mixed import encode_mixed
from open_channel.bus.core.records import NOBODY, PUBLISH, encode_publication
from open_channel.protocol.batches import OVERHEAD, SEAL

if TYPE_CHECKING:
    from open_channel.protocol.batches import Message

__all__ = ["NAMED", "Row"]

NAMED = 3
"""What the topic of a mixed message takes beside its name, in bytes."""

_LONG = 64  # messages to one topic that are worth a publication of their own


class Row:
    """The messages, and how many bytes they are."""

    __slots__ = ("_granted", "_size", "_used", "bodies", "credit", "flags", "topic", "topics")

    def __init__(self) -> None:
        self.topic = b""
        """The one object for this topic; an equal one is another topic. Empty when mixed."""
        self.topics: list[bytes] = []
        """The topic of each message when mixed; else empty."""
        self.flags = 0
        self.bodies: list[bytes] = []
        self.credit = 0
        """How many bytes of messages to this topic, with these flags, may be appended to ``bodies``
        as they are, each taking its own and ``OVERHEAD`` off; they are counted later. When mixed,
        messages to any topic, which is appended to ``topics`` and takes its length and ``NAMED``.
        """
        self._granted = 0
        self._size = 0  # of what was not appended on credit
        self._used = 0  # how much of the credit before this one was used

    @property
    def size(self) -> int:
        """The bytes of all messages, each with its topic when mixed."""
        return self._size + self._granted - self.credit

    def mix(self) -> bool:
        """Let a message to another topic follow; False when there should be a new row instead."""
        if self.topics:
            return True
        if not 0 < len(self.bodies) < _LONG:
            return False
        self.topics = [self.topic] * len(self.bodies)
        self._size += (len(self.topic) + NAMED) * len(self.bodies)
        self.topic = b""
        return True

    def add(self, topic: bytes, body: bytes, flags: int, room: int) -> int:
        """Append a message that belongs here; returns the bytes of all.

        Gives credit for as much more as a publication takes, and for no more than ``room``.
        """
        self.flags = flags
        self.bodies.append(body)
        size = self.size + len(body) + OVERHEAD
        if self.topics:
            self.topics.append(topic)
            size += len(topic) + NAMED
        else:
            self.topic = topic
        self._end_credit()
        self._size = size
        self.credit = self._granted = max(0, min(SEAL - size, room))
        return size

    def seal(self, first: int, sender: bytes) -> Message:
        """Make a publication of all of them; nothing is left, and no credit."""
        bodies, self.bodies = self.bodies, []
        topics, self.topics = self.topics, []
        self._end_credit()
        self._size = 0
        if topics:
            return encode_mixed(self.flags, topics, first, sender, bodies)
        return encode_publication(PUBLISH, self.flags, self.topic, first, sender, NOBODY, bodies)

    def _end_credit(self) -> None:
        self._used += self._granted - self.credit
        self.credit = self._granted = 0

    def used(self) -> int:
        """How many bytes were appended on credit since this was asked before."""
        used, self._used = self._used + self._granted - self.credit, self.credit - self._granted
        return used
