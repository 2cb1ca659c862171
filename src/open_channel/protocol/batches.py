"""Batches: how several messages share one frame.

    length of each message (u32 each, as many as the frame's number says) | the messages, joined

One header, one table and one join serve a whole tick's writes. A batch of several messages stays
under ``BATCH_LIMIT``; a message larger than that travels alone.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from open_channel.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BATCH_LIMIT", "OVERHEAD", "drop_first", "pack", "unpack"]

BATCH_LIMIT = 256 * 1024
"""The most a payload of several messages takes, in bytes."""

OVERHEAD = 4
"""What one message costs beside its own bytes."""

_SMALL = 4096  # up to this mean size, copying the payload once makes slicing it cheaper


def pack(messages: Sequence[bytes]) -> list[bytes]:
    """The payload as pieces to be joined or written in a row: the table, then the messages."""
    return [array("I", map(len, messages)).tobytes(), *messages]


def unpack(payload: memoryview | bytes, count: int) -> list[bytes]:
    """The messages of a payload, each as bytes of its own.

    Raises RemoteProtocolError when the table does not fit the payload.
    """
    size = len(payload)
    table = OVERHEAD * count
    if not 0 < count <= size // OVERHEAD or (count > 1 and size > BATCH_LIMIT):
        raise RemoteProtocolError(reason=f"a batch of {count} messages in {size} bytes")
    view = memoryview(payload)
    lengths = view[:table].cast("I").tolist()
    if sum(lengths) != size - table:
        raise RemoteProtocolError(reason="a batch whose table does not fit its messages")
    if count == 1:
        return [bytes(view[table:])]
    if size < _SMALL * count:
        body = bytes(view[table:])
        return [body[start:stop] for start, stop in pairwise(accumulate(lengths, initial=0))]
    body_view = view[table:]
    return [
        bytes(body_view[start:stop]) for start, stop in pairwise(accumulate(lengths, initial=0))
    ]


def drop_first(payload: bytes, count: int, dropped: int) -> list[bytes]:
    """The pieces of a batch without its first ``dropped`` messages."""
    return pack(unpack(payload, count)[dropped:])
