"""A row: messages to one topic that were published one after the other, and are not sent yet.

All of them become one publication. Whoever publishes a message like the one before may append it
himself, on credit: that takes a third of the time of a call for each.
"""

from __future__ import annotations

from open_channel.protocol.batches import OVERHEAD, SEAL

__all__ = ["Row"]


class Row:
    """The messages, and how many bytes they are."""

    __slots__ = ("_granted", "_size", "_used", "bodies", "credit", "flags", "topic")

    def __init__(self) -> None:
        self.topic = b""
        """The one object for this topic; an equal one is another topic."""
        self.flags = 0
        self.bodies: list[bytes] = []
        self.credit = 0
        """How many bytes of messages to this topic, with these flags, may be appended to ``bodies``
        as they are, each taking its own and ``OVERHEAD`` off; they are counted later."""
        self._granted = 0
        self._size = 0  # of what was not appended on credit
        self._used = 0  # how much of the credit before this one was used

    @property
    def size(self) -> int:
        """The bytes of all messages."""
        return self._size + self._granted - self.credit

    def add(self, topic: bytes, body: bytes, flags: int, room: int) -> int:
        """Append a message that belongs here; returns the bytes of all.

        Gives credit for as much more as a publication takes, and for no more than ``room``.
        """
        self.topic, self.flags = topic, flags
        self.bodies.append(body)
        size = self.size + len(body) + OVERHEAD
        self._end_credit()
        self._size = size
        self.credit = self._granted = max(0, min(SEAL - size, room))
        return size

    def take(self) -> list[bytes]:
        """All of them, for a publication; nothing is left, and no credit."""
        bodies, self.bodies = self.bodies, []
        self._end_credit()
        self._size = 0
        return bodies

    def _end_credit(self) -> None:
        self._used += self._granted - self.credit
        self.credit = self._granted = 0

    def used(self) -> int:
        """How many bytes were appended on credit since this was asked before."""
        used, self._used = self._used + self._granted - self.credit, self.credit - self._granted
        return used
