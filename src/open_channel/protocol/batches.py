"""Batches: how several messages share one frame.

    length of each message (u32 each, as many as the frame's number says) | the messages, joined

One header, one table and one join serve a whole tick's writes. A batch of several messages stays
under ``BATCH_LIMIT``; a message larger than that travels alone.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, pairwise
from struct import Struct, iter_unpack
from typing import TYPE_CHECKING, TypeAlias

from open_channel.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_channel.protocol.shared import Place

__all__ = [
    "BATCH_LIMIT",
    "LARGE",
    "LENGTH",
    "OVERHEAD",
    "SEAL",
    "Large",
    "Message",
    "drop_first",
    "pack",
    "unpack",
    "unwrap_one",
]

BATCH_LIMIT = 256 * 1024
"""The most a payload of several messages takes, in bytes."""

OVERHEAD = 4
"""What one message costs beside its own bytes."""

LENGTH = Struct("=I")
"""One entry of the table."""

_unpack_length = LENGTH.unpack_from

SEAL = 64 * 1024
"""Bytes at which what is gathered to leave together gains nothing more from growing."""

LARGE = 128 * 1024
"""Bytes of one message above which a copy costs more than a second piece to write."""

_FEW = tuple(Struct(f"={count}I") for count in range(5))
_MISFIT = "a batch whose table does not fit its messages"
_SMALL = 4096  # up to this mean size, copying the payload once makes slicing it cheaper


class Large:
    """A message of more than ``LARGE`` bytes, in pieces of which none is copied.

    Who writes one may put something of his own before a body. What is received is one piece, a view
    of the buffer that it was read into, which is nobody else's; or, of what came by shared memory,
    the pieces of which the last was there.
    """

    __slots__ = ("pieces", "place", "size")

    def __init__(self, *pieces: bytes | memoryview, place: Place | None = None) -> None:
        self.pieces = pieces
        self.place = place
        """Where the last piece lies in memory of this process that others can read, if it does."""
        self.size = sum(map(len, pieces))
        """In bytes."""

    @property
    def head(self) -> bytes | memoryview:
        """The first piece."""
        return self.pieces[0]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        """A byte of the first piece."""
        return self.pieces[0][index]

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)


Message: TypeAlias = bytes | Large
"""A message of a session; those of a user's socket are always bytes."""


def pack(messages: Sequence[bytes]) -> bytes:
    """The payload."""
    if len(messages) == 1:
        return LENGTH.pack(len(messages[0])) + messages[0]
    return b"".join([array("I", map(len, messages)), *messages])


def unpack(payload: memoryview | bytes, count: int) -> list[bytes]:
    """The messages of a payload, each as bytes of its own.

    Raises RemoteProtocolError when the table does not fit the payload.
    """
    if count == 1:
        return [bytes(unwrap_one(payload))]
    size = len(payload)
    table = OVERHEAD * count
    if not 0 < count <= size // OVERHEAD or size > BATCH_LIMIT:
        raise RemoteProtocolError(reason=f"a batch of {count} messages in {size} bytes")
    if count < len(_FEW):
        return _unpack_few(payload, _FEW[count].unpack_from(payload), table)
    view = memoryview(payload)
    lengths = view[:table].cast("I").tolist()
    if sum(lengths) != size - table:
        raise RemoteProtocolError(reason=_MISFIT)
    bodies = view[table:]
    first = lengths[0]
    if lengths.count(first) == count and first:
        # All of one length, as they mostly are: half the time of slicing.
        return [body for (body,) in iter_unpack(f"{first}s", bodies)]
    source = bytes(bodies) if size < _SMALL * count else bodies
    return [bytes(source[start:stop]) for start, stop in pairwise(accumulate(lengths, initial=0))]


def unwrap_one(payload: memoryview | bytes) -> memoryview | bytes:
    """The message of a payload that holds one, without a copy; raises as ``unpack()`` does."""
    size = len(payload) - OVERHEAD
    if size < 0 or _unpack_length(payload)[0] != size:
        raise RemoteProtocolError(reason="a message whose length does not fit its frame")
    return payload[OVERHEAD:]


def _unpack_few(payload: memoryview | bytes, lengths: tuple[int, ...], start: int) -> list[bytes]:
    """An answer and an acknowledgement, say: a third less time than by what is made for many."""
    size = len(payload)
    if sum(lengths) != size - start:
        raise RemoteProtocolError(reason=_MISFIT)
    source = bytes(payload) if size < _SMALL else payload
    messages: list[bytes] = []
    for length in lengths:
        stop = start + length
        messages.append(bytes(source[start:stop]))
        start = stop
    return messages


def drop_first(payload: bytes, count: int, dropped: int) -> bytes:
    """A payload without its first ``dropped`` messages."""
    return pack(unpack(payload, count)[dropped:])
