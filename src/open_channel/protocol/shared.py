"""Shared memory: how a large message is told by where it lies, in memory that its sender shares.

    OFFER     descriptor u32 | size u64 | stamp u64       memory to be opened, if that can be done
    MESSAGES  place u64 | length u64 | stamp u64 | head   with the flag SHARED: one message

The message is the head and the bytes at the place. Before these lies the same stamp, and only as
long as the sender waits for the message to be consumed: whoever copies them looks at the stamp
afterwards, and knows that they are what was meant. The bytes at place 0 are the offer's stamp.
"""

from __future__ import annotations

from struct import Struct, error
from typing import NamedTuple

from open_channel.errors import RemoteProtocolError

__all__ = ["STAMP", "Offer", "Place", "Told"]

STAMP = Struct("=Q")
"""What lies before the bytes at a place."""

_OFFER = Struct("=IQQ")
_TOLD = Struct("=QQQ")
_SIZE = _TOLD.size


class Offer(NamedTuple):
    """Memory that its owner shares, as its peer is told."""

    descriptor: int
    """In the owner's process."""
    size: int
    """In bytes."""
    stamp: int

    def encode(self) -> bytes:
        """The payload of an OFFER."""
        return _OFFER.pack(*self)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Offer:
        """Raises RemoteProtocolError when it is none."""
        try:
            return cls(*_OFFER.unpack(payload))
        except error:
            raise RemoteProtocolError(reason=f"an offer of {len(payload)} bytes") from None


class Place:
    """Where bytes lie in memory that is shared; it is theirs as long as this object is there."""

    __slots__ = ("at", "length", "stamp")

    def __init__(self, at: int, length: int, stamp: int) -> None:
        self.at = at
        self.length = length
        self.stamp = stamp

    def encode(self, head: bytes) -> bytes:
        """The payload of a message of which ``head`` is told, and the rest lies here."""
        return _TOLD.pack(self.at, self.length, self.stamp) + head


class Told(NamedTuple):
    """A message as it is told."""

    at: int
    length: int
    stamp: int
    head: bytes

    @classmethod
    def decode(cls, payload: memoryview) -> Told:
        """Raises RemoteProtocolError when it is none."""
        if len(payload) < _SIZE:
            raise RemoteProtocolError(reason=f"a place told in {len(payload)} bytes")
        at, length, stamp = _TOLD.unpack_from(payload)
        return cls(at, length, stamp, bytes(payload[_SIZE:]))
