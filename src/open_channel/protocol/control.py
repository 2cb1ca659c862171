"""Control messages: what the two sides say to each other before a connection carries messages.

They are MessagePack by msgspec, which validates every field's type and range while it decodes:
whatever is wrong with one ends in a single kind of error. The version travels in the frame's
header and is looked at first, so a payload is only ever decoded by those who know its shape.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.frames import MAGIC, VERSION, Frame, Kind, encode

__all__ = [
    "Hello",
    "Refusal",
    "Welcome",
    "decode_hello",
    "decode_refusal",
    "decode_welcome",
    "encode_hello",
    "encode_refusal",
    "encode_welcome",
    "version_of",
]

_Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Hosting = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Window = Annotated[int, msgspec.Meta(ge=1024, le=2**63 - 1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
_Text = Annotated[str, msgspec.Meta(max_length=4096)]


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """A member asks to be connected, and says where its session stands."""

    service: _Text
    """Which service it wants: a connection to the wrong one is refused."""
    member: _Id
    pid: _Count
    counter: _Count
    """Counts the member's connections; a host refuses one that is not higher than the last."""
    hosting: _Hosting
    """The hosting that the member's session is with; 0 when it has none."""
    received: _Count
    """How many messages of that hosting have arrived here."""
    window: _Window
    """How many bytes the host may have in flight unacknowledged."""
    max_message: _Count
    snapshot: bytes = b""
    """What the service wants to know of the member; opaque here."""


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The host's answer: the connection counts from here on."""

    hosting: Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]
    epoch: _Count
    member: _Id
    pid: _Count
    resumed: bool
    """Whether the session goes on by its numbers; if not, it starts from zero."""
    received: _Count
    """How many messages of the member have arrived at this hosting."""
    window: _Window
    """How many bytes the member may have in flight unacknowledged."""
    max_message: _Count
    heartbeat: _Seconds
    """The host is never silent for longer than this while all is well, in seconds."""
    timeout: _Seconds
    """After this much silence the host is looked into, in seconds."""
    snapshot: bytes = b""


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """The host says no. ``code`` is one of "version", "user", "service", "stale", "garbage"."""

    code: _Text
    reason: _Text
    ours: int = 0
    """The fact of the refusing side that did not fit: its version, its user id."""
    theirs: int = 0


_Message = TypeVar("_Message", Hello, Welcome, Refusal)


def _decode(decoder: msgspec.msgpack.Decoder[_Message], frame: Frame) -> _Message:
    try:
        return decoder.decode(frame.payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = Kind(frame.kind).name
        raise RemoteProtocolError(reason=f"{kind} cannot be read: {error}") from None


_hello = msgspec.msgpack.Decoder(Hello)
_welcome = msgspec.msgpack.Decoder(Welcome)
_refusal = msgspec.msgpack.Decoder(Refusal)


def version_of(frame: Frame) -> int:
    """The protocol version a handshake frame was written in."""
    return frame.number & 0xFFFF


def decode_hello(frame: Frame) -> Hello:
    """Raises RemoteProtocolError when it is not a Hello of this version."""
    return _decode(_hello, frame)


def decode_welcome(frame: Frame) -> Welcome:
    """Raises RemoteProtocolError when it is not a Welcome of this version."""
    return _decode(_welcome, frame)


def decode_refusal(frame: Frame) -> Refusal:
    """Raises RemoteProtocolError when it is not a Refusal of this version."""
    return _decode(_refusal, frame)


def encode_hello(hello: Hello, version: int = VERSION) -> bytes:
    """A whole frame."""
    return encode(Kind.HELLO, MAGIC | version, msgspec.msgpack.encode(hello))


def encode_welcome(welcome: Welcome) -> bytes:
    """A whole frame."""
    return encode(Kind.WELCOME, MAGIC | VERSION, msgspec.msgpack.encode(welcome))


def encode_refusal(refusal: Refusal) -> bytes:
    """A whole frame."""
    return encode(Kind.REFUSAL, MAGIC | VERSION, msgspec.msgpack.encode(refusal))
