"""Answers: what is said to one member of its requests and jobs, in publications to it.

A reply is one message; so is a list of jobs that are done.
"""

from __future__ import annotations

from struct import Struct

import msgspec

from open_channel.bus.core.records import UNDECODABLE
from open_channel.errors import RemoteProtocolError

__all__ = ["REPLY_SIZE", "decode_done", "decode_reply", "encode_done", "encode_reply"]

_REPLY = Struct("=QB")
REPLY_SIZE = _REPLY.size
"""What a reply takes beside its body, in bytes."""

_encode = msgspec.msgpack.Encoder().encode
_decode_done = msgspec.msgpack.Decoder(list[tuple[int, str]]).decode


def encode_reply(seq: int, failed: bool, body: bytes) -> bytes:
    """The message of a reply to the request ``seq`` of whom it is addressed to."""
    return _REPLY.pack(seq, failed) + body


def decode_reply(message: bytes) -> tuple[int, bool, bytes]:
    """Raises RemoteProtocolError when it is none."""
    if len(message) < _REPLY.size:
        raise RemoteProtocolError(reason=f"a reply of {len(message)} bytes")
    seq, failed = _REPLY.unpack_from(message)
    return seq, bool(failed), message[_REPLY.size :]


def encode_done(jobs: list[tuple[int, str]]) -> bytes:
    """The message that tells a publisher which of its jobs, (seq, group), are done."""
    return _encode(jobs)


def decode_done(message: bytes) -> list[tuple[int, str]]:
    """Raises RemoteProtocolError when it is none."""
    try:
        return _decode_done(message)
    except UNDECODABLE as reason:
        raise RemoteProtocolError(reason=f"jobs that are done: {reason}") from None
