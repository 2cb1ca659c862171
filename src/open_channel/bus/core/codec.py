"""Payloads: bytes pass untouched, anything else travels as MessagePack.

A flag beside the body says which it is. Nothing that arrives is ever executed: MessagePack is data
alone, and what it becomes is the receiver's choice, by a type.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import msgspec

from open_channel.errors import PayloadInvalid

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_type", "decode", "encode"]

_HERE = "this process"
_encode = msgspec.msgpack.Encoder().encode
# What msgspec raises for data: too large an integer, half a surrogate pair, nested without end.
_MISFITS = (TypeError, ValueError, OverflowError, RecursionError)


def encode(data: object, topic: str = "") -> tuple[bytes, bool]:
    """The body of a message, and whether it was encoded.

    bytes, bytearray and memoryview pass untouched (what may change later is copied). Anything else
    is encoded: None, numbers, str, lists, dicts, dates, UUIDs, enums, dataclasses, Structs...

    Raises PayloadInvalid, naming ``topic`` if there is one, when it cannot be.
    """
    if isinstance(data, bytes):
        return data, False
    if isinstance(data, bytearray | memoryview):
        return bytes(cast("bytearray", data)), False
    try:
        return _encode(data), True
    except _MISFITS as error:
        raise PayloadInvalid(topic=topic, sender=_HERE, reason=_reason(error)) from error


# `type` is the option's public name, here as in subscribe().
def decode(body: bytes, encoded: bool, type: Any, topic: str, sender: str) -> Any:  # noqa: A002
    """What a message carries; ``encoded`` is what ``encode()`` said of it.

    ``type`` None means as it was sent: bytes untouched, or plain data. Else it is a type (a
    dataclass, Struct, TypedDict, ``list[int]``, ...) that the data is decoded into and checked
    against; a body that was sent as bytes is taken for MessagePack then, unless ``type`` is bytes.

    Raises PayloadInvalid, naming ``topic`` and ``sender``, when it is no MessagePack or does not
    fit; TypeError when msgspec cannot decode into ``type`` whatever the data.
    """
    if not encoded and (type is None or type is bytes):
        return body
    decoder = _decoder(Any if type is None else type)
    try:
        return decoder(body)
    except _MISFITS as error:
        raise PayloadInvalid(topic=topic, sender=sender, reason=_reason(error)) from error


def check_type(type: Any) -> None:  # noqa: A002 (as in decode())
    """Raises TypeError when nothing can be decoded into ``type``; None is any."""
    if type is not None:
        _decoder(type)


def _reason(error: Exception) -> str:
    return str(error) or error.__class__.__name__


@lru_cache(maxsize=256)
def _decoder(kind: Any) -> Callable[[bytes], Any]:
    # To make one costs more than to use it, many times for a large type.
    return msgspec.msgpack.Decoder(kind).decode
