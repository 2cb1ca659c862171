"""Frames: what travels on a connection, and the incremental decoder that finds them in bytes.

A frame is a header of twenty bytes and a payload. Both ends run on one machine, so integers are
in that machine's byte order.

    length u32 | kind u8 | flags u8 | (2 zero bytes) | number u32 | ack u64 | payload (length bytes)

    kind      number                  ack     payload
    HELLO     version                 magic   a control message (``protocol.control``)
    WELCOME   version                 magic   a control message
    REFUSAL   version                 magic   a control message
    MESSAGES  how many it holds, > 0  ack     a batch (``protocol.batches``)
    END       1                       ack     empty: the sender's stream ends here
    ACK       0                       ack     empty
    PING      0                       0       empty
    GOODBYE   0                       0       empty: this connection ends
    OFFER     0                       0       memory that can be shared (``protocol.shared``)
    TAKEN     0                       0       which memory that was offered can be read
    WITHDRAWN 0                       0       which memory will not be used any more
    HOLDING   0                       0       which places in it are in use still

``ack`` says how many messages of the other direction were consumed before this frame was written;
it never falls, so 0 says nothing new. The header's layout and the three handshake kinds never
change, so that two versions can tell each other that they are two.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, cast

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "HANDSHAKE",
    "HANDSHAKE_LIMIT",
    "HEADER",
    "MAGIC",
    "REDELIVERED",
    "SHARED",
    "VERSION",
    "Decoder",
    "Frame",
    "Kind",
    "encode",
]

VERSION = 1
MAGIC = int.from_bytes(b"OpenChan", "big")
HEADER = struct.Struct("=IBBxxIQ")
HANDSHAKE_LIMIT = 64 * 1024  # bytes of payload before a connection is welcomed
REDELIVERED = 0x01  # flag of MESSAGES: an earlier host may have handled these
SHARED = 0x02  # flag of MESSAGES: one message that lies in shared memory

_FIRST_BUFFER = 8 * 1024  # an idle connection holds no more than this
_LAST_BUFFER = 256 * 1024  # a busy one reads this much with one system call
_USED = 4  # buffers of such messages that may come into use again, until others come
_NOTHING = memoryview(b"")
_ONE_READ = 2 * 1024 * 1024  # ... and up to this much of a message like the large one before it


class Kind(IntEnum):
    """The kinds of frames."""

    HELLO = 1
    WELCOME = 2
    REFUSAL = 3
    MESSAGES = 4
    END = 5
    ACK = 6
    PING = 7
    GOODBYE = 8
    OFFER = 9
    TAKEN = 10
    WITHDRAWN = 11
    HOLDING = 12


def _is_free(buffer: bytearray) -> bool:
    """Whether no view of it is left: with one, it cannot be resized."""
    try:
        buffer.pop()
    except BufferError:
        return False
    buffer.append(0)
    return True


class Frame(NamedTuple):
    """One frame; the payload is a view of the decoder's buffer, valid until it reads again."""

    kind: int
    flags: int
    number: int
    ack: int
    payload: memoryview


# Half the time of the class's own constructor, for every frame.
_new_frame = cast(
    "Callable[[type[Frame], tuple[int, int, int, int, memoryview]], Frame]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)
_HEADER, _unpack_header = HEADER.size, HEADER.unpack_from
_MESSAGES = int(Kind.MESSAGES)  # a plain int: the decoder compares it for every frame
_KINDS = frozenset(Kind)
_EMPTY = frozenset({Kind.END, Kind.ACK, Kind.PING, Kind.GOODBYE})
HANDSHAKE = frozenset({int(Kind.HELLO), int(Kind.WELCOME), int(Kind.REFUSAL)})
"""The kinds that come before messages may."""


def encode(kind: int, number: int = 0, ack: int = 0, payload: bytes = b"") -> bytes:
    """A whole frame as bytes."""
    return HEADER.pack(len(payload), kind, 0, number, ack) + payload


class Decoder:
    """Finds frames in bytes that arrive in pieces, in place, with no copy of a payload.

    It owns the receive buffer: ``get_buffer()`` lends the room to read into, ``received(n)`` says
    that ``n`` bytes came and returns the frames that are complete. Their payloads are views into
    the buffer and must be used before the next ``get_buffer()``, but for those of a single large
    message: they may be kept, and nothing else is ever read to where they are. A frame larger than
    the buffer gets one of its own, once its length has been found to be within ``limit``.
    """

    __slots__ = (
        "_buffer",
        "_end",
        "_given",
        "_next",
        "_size",
        "_start",
        "_used",
        "_view",
        "limit",
    )

    def __init__(self, limit: int = HANDSHAKE_LIMIT) -> None:
        self.limit = limit
        """The largest payload accepted, in bytes; checked before anything is allocated."""
        self._size = _FIRST_BUFFER  # of the buffer that serves frames of ordinary size
        self._start = self._end = 0
        self._used: list[bytearray] = []
        self._given = False  # whether somebody may keep a payload that is in the buffer
        # Behind a large message there may be another of its size, which is read to the front of a
        # buffer that it just fills; 0 behind others.
        self._next = 0
        self._buffer = bytearray(self._size)
        self._view = memoryview(self._buffer)

    def get_buffer(self) -> memoryview:
        """The room for the next read; never empty."""
        start, end = self._start, self._end
        if start == end:
            self._start = self._end = 0
            size = self._next or self._size
            if self._given or len(self._view) != size:
                self._renew(size)
            return self._view
        need = _HEADER
        if end - start >= need:
            need += _unpack_header(self._view, start)[0]
        if self._given or start + max(need, self._size // 2) > len(self._view):
            rest = self._view[start:end]
            if self._given or max(need, self._size) > len(self._view):
                self._renew(max(need, self._size))
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        return self._view[self._end :]

    def _renew(self, size: int) -> None:
        """Take another buffer: one of the last few, if nobody has kept a view of it.

        New pages, or clean ones, for each message of 1 MiB would cost a subscriber as much as all
        else that it does with it, and a host a fifth.
        """
        used = self._used
        if not self._next:
            used.clear()
        elif self._given:
            used.append(self._buffer)
            del used[:-_USED]
        self._given = False
        self._view = _NOTHING
        for place, buffer in enumerate(used):
            if len(buffer) == size and _is_free(buffer):
                self._buffer = used.pop(place)
                break
        else:
            self._buffer = bytearray(size)
        self._view = memoryview(self._buffer)

    def received(self, count: int) -> list[Frame]:
        """Say that ``count`` bytes were read into the room; return the complete frames.

        A handshake frame is the last that is returned: ``limit`` may be another after it. Ask
        again, with a count of 0, for what is behind it.

        Raises RemoteProtocolError when the bytes cannot be a frame. Nothing that follows on this
        connection means anything then: close it.
        """
        end = self._end = self._end + count
        if count and end == len(self._view) and self._size < _LAST_BUFFER:
            self._size *= 2  # all the room was used: there may be more
        position = self._start
        view = self._view
        frames: list[Frame] = []
        while (body := position + _HEADER) <= end:
            length, kind, flags, number, ack = _unpack_header(view, position)
            if kind != _MESSAGES or length > self.limit:
                self._check(length, kind, ack)
            stop = body + length
            if stop > end:
                break
            position = stop
            frames.append(_new_frame(Frame, (kind, flags, number, ack, view[body:stop])))
            if position == end or kind in HANDSHAKE:
                break
        if position - self._start > LARGE:
            self._look_for_large(frames)
        elif frames:
            self._next = 0
        self._start = position
        return frames

    def _look_for_large(self, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.number == 1 and len(frame.payload) > LARGE:
                size = _HEADER + len(frame.payload)
                self._given = True
                self._next = size if self._size < size <= _ONE_READ else 0

    def _check(self, length: int, kind: int, ack: int) -> None:
        if kind not in _KINDS:
            raise RemoteProtocolError(reason=f"frame of unknown kind {kind}")
        limit = HANDSHAKE_LIMIT if kind in HANDSHAKE else self.limit
        if length > limit:
            raise RemoteProtocolError(
                reason=f"{Kind(kind).name} of {length} bytes, over the limit of {limit}"
            )
        if kind in _EMPTY and length:
            raise RemoteProtocolError(reason=f"{Kind(kind).name} with {length} bytes of payload")
        if kind in HANDSHAKE and ack != MAGIC:
            raise RemoteProtocolError(reason=f"{Kind(kind).name} without the magic number")
