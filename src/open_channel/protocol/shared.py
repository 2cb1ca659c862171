"""Shared memory: how a large message is told by where it lies, in memory that its sender shares.

    OFFER      pid u32 | descriptor u32 | size u64 | stamp u64      memory that may be opened
    TAKEN      stamp u64                                            it was
    WITHDRAWN  stamp u64                                            nothing more will be told of it
    MESSAGES   memory u64 | place u64 | length u64 | stamp u64 | head   with the flag SHARED: one
    HOLDING    number u64 | stamp u64, any number of them

The message is the head and the bytes at the place. Before these lies the same stamp, as long as
they are what was told: whoever copies them looks at the stamp afterwards. The bytes at place 0 of
a memory are the stamp in its offer, by which it is named.

A host copies nothing: it tells others where a member's message lies, and the member leaves it there
until the host does not hold it any more. HOLDING says so: of all messages up to that number, these
are still in use. It leaves nothing to remember of what was said before, so it may be lost.
"""

from __future__ import annotations

from array import array
from struct import Struct, error
from typing import TYPE_CHECKING

from open_channel.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "STAMP",
    "Offer",
    "Place",
    "decode_holding",
    "decode_stamp",
    "decode_told",
    "encode_holding",
]

STAMP = Struct("=Q")
"""What lies before the bytes at a place."""

_OFFER = Struct("=IIQQ")
_TOLD = Struct("=QQQQ")
_SIZE = _TOLD.size


class Offer:
    """Memory that its owner shares, as others are told."""

    __slots__ = ("descriptor", "pid", "size", "stamp")

    def __init__(self, pid: int, descriptor: int, size: int, stamp: int) -> None:
        self.pid = pid
        """The owner's; 0 for whoever offers it."""
        self.descriptor = descriptor
        """In the owner's process."""
        self.size = size
        """In bytes."""
        self.stamp = stamp

    def encode(self) -> bytes:
        """The payload of an OFFER."""
        return _OFFER.pack(self.pid, self.descriptor, self.size, self.stamp)

    @classmethod
    def decode(cls, payload: bytes | memoryview) -> Offer:
        """Raises RemoteProtocolError when it is none."""
        try:
            return cls(*_OFFER.unpack(payload))
        except error:
            raise RemoteProtocolError(reason=f"an offer of {len(payload)} bytes") from None


class Place:
    """Where bytes lie in memory that is shared."""

    __slots__ = ("at", "length", "memory", "stamp")

    def __init__(self, memory: int, at: int, length: int, stamp: int) -> None:
        self.memory = memory
        """Which: the stamp in its offer."""
        self.at = at
        self.length = length
        """In bytes."""
        self.stamp = stamp

    def told(self, head: bytes) -> bytes:
        """The payload that tells of a message of which ``head`` goes before what lies here."""
        return _TOLD.pack(self.memory, self.at, self.length, self.stamp) + head


def decode_told(payload: memoryview) -> tuple[Place, bytes]:
    """Where a message lies, and its head.

    Raises RemoteProtocolError when that cannot be read.
    """
    if len(payload) < _SIZE:
        raise RemoteProtocolError(reason=f"a place told in {len(payload)} bytes")
    return Place(*_TOLD.unpack_from(payload)), bytes(payload[_SIZE:])


def decode_stamp(payload: bytes | memoryview) -> int:
    """What a TAKEN or WITHDRAWN names; raises RemoteProtocolError when it does not."""
    if len(payload) != STAMP.size:
        raise RemoteProtocolError(reason=f"shared memory named by {len(payload)} bytes")
    return int(STAMP.unpack(payload)[0])


def encode_holding(number: int, stamps: Collection[int]) -> bytes:
    """The payload that says which of the places told up to a message's number are in use."""
    return array("Q", [number, *stamps]).tobytes()


def decode_holding(payload: bytes | memoryview) -> tuple[int, set[int]]:
    """Raises RemoteProtocolError when that cannot be read."""
    if not payload or len(payload) % STAMP.size:
        raise RemoteProtocolError(reason=f"places in use told in {len(payload)} bytes")
    number, *stamps = array("Q", bytes(payload))
    return number, set(stamps)
