"""Shared memory: how a large message is told by where it lies, in memory that its sender shares.

    OFFER     descriptor u32 | size u64 | stamp u64       memory to be opened, if that can be done
    MESSAGES  place u64 | length u64 | stamp u64 | head   with the flag SHARED: one message

The message is the head and the bytes at the place. Before these lies the same stamp, and only as
long as the sender waits for the message to be consumed: whoever copies them looks at the stamp
afterwards, and knows that they are what was meant. The bytes at place 0 are the offer's stamp.
"""

from __future__ import annotations

from struct import Struct, error

from open_channel.errors import RemoteProtocolError

__all__ = ["STAMP", "Offer", "Place", "decode_told"]

STAMP = Struct("=Q")
"""What lies before the bytes at a place."""

_OFFER = Struct("=IQQ")
_TOLD = Struct("=QQQ")
_SIZE = _TOLD.size


class Offer:
    """Memory that its owner shares, as its peer is told."""

    __slots__ = ("descriptor", "size", "stamp")

    def __init__(self, descriptor: int, size: int, stamp: int) -> None:
        self.descriptor = descriptor
        """In the owner's process."""
        self.size = size
        """In bytes."""
        self.stamp = stamp

    def encode(self) -> bytes:
        """The payload of an OFFER."""
        return _OFFER.pack(self.descriptor, self.size, self.stamp)

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
        """In bytes."""
        self.stamp = stamp

    def told(self, head: bytes) -> bytes:
        """The payload that tells of a message of which ``head`` goes before what lies here."""
        return _TOLD.pack(self.at, self.length, self.stamp) + head


def decode_told(payload: memoryview) -> tuple[Place, bytes]:
    """Where a message lies in the sender's memory, and its head.

    Raises RemoteProtocolError when that cannot be read.
    """
    if len(payload) < _SIZE:
        raise RemoteProtocolError(reason=f"a place told in {len(payload)} bytes")
    return Place(*_TOLD.unpack_from(payload)), bytes(payload[_SIZE:])
