"""Control messages: what the two sides say to each other before a connection carries messages.

Each is a fixed layout of integers and a tail of bytes, so that any bytes of enough length decode
to something, and the few values that would make no sense are refused. The version travels in the
frame's header and is looked at first: a payload is only decoded by those who know its shape.
"""

import struct
from typing import NamedTuple

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.frames import MAGIC, VERSION, Frame, Kind, encode

__all__ = [
    "REFUSED_FOR",
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

_LEAST_WINDOW = 1024


class Hello(NamedTuple):
    """A member asks to be connected, and says where its session stands."""

    service: str
    """One letter: which service it wants; a connection to the wrong one is refused."""
    member: bytes
    """The member's id, 16 bytes."""
    counter: int
    """Counts the member's connections; a host refuses one that is not higher than the last."""
    hosting: int
    """The hosting that the member's session is with; 0 when it has none."""
    received: int
    """How many messages of that hosting have arrived here."""
    window: int
    """How many bytes the host may have in flight unacknowledged."""
    max_message: int
    """The largest message that the member takes, in bytes."""
    snapshot: bytes = b""
    """What the service wants to know of the member; opaque here."""


class Welcome(NamedTuple):
    """The host's answer: the connection counts from here on."""

    hosting: int
    """A random number above 0 that no other hosting has."""
    epoch: int
    member: bytes
    """The host's own member id, 16 bytes."""
    pid: int
    resumed: bool
    """Whether the session goes on by its numbers; if not, it starts from zero."""
    received: int
    """How many messages of the member have arrived at this hosting."""
    window: int
    """How many bytes the member may have in flight unacknowledged."""
    max_message: int
    """The largest message that the host takes, in bytes."""
    snapshot: bytes = b""


class Refusal(NamedTuple):
    """The host says no."""

    code: str
    """One of ``REFUSED_FOR``."""
    reason: str
    ours: int = 0
    """The fact of the refusing side that did not fit: its version, its user id."""
    theirs: int = 0


REFUSED_FOR = ("other", "version", "user", "service", "stale")
"""Why a host refuses; what this version does not know is "other"."""

_HELLO = struct.Struct("=c16sQQQQQ")
_WELCOME = struct.Struct("=QQ16sIBQQQ")
_REFUSAL = struct.Struct("=BQQ")


def version_of(frame: Frame) -> int:
    """The protocol version a handshake frame was written in."""
    return frame.number


def _check(frame: Frame, layout: struct.Struct) -> None:
    if len(frame.payload) < layout.size:
        kind, size = Kind(frame.kind).name, len(frame.payload)
        raise RemoteProtocolError(reason=f"{kind} of {size} bytes, of at least {layout.size}")


def _check_window(kind: Kind, window: int) -> None:
    if window < _LEAST_WINDOW:
        raise RemoteProtocolError(reason=f"{kind.name} with a window of {window} bytes")


def decode_hello(frame: Frame) -> Hello:
    """Raises RemoteProtocolError when it is not a Hello of this version."""
    _check(frame, _HELLO)
    service, *fields = _HELLO.unpack_from(frame.payload)
    tail = bytes(frame.payload[_HELLO.size :])
    hello = Hello._make((service.decode("latin-1"), *fields, tail))
    _check_window(Kind.HELLO, hello.window)
    return hello


def decode_welcome(frame: Frame) -> Welcome:
    """Raises RemoteProtocolError when it is not a Welcome of this version."""
    _check(frame, _WELCOME)
    tail = bytes(frame.payload[_WELCOME.size :])
    welcome = Welcome._make((*_WELCOME.unpack_from(frame.payload), tail))
    _check_window(Kind.WELCOME, welcome.window)
    if not welcome.hosting:
        raise RemoteProtocolError(reason="WELCOME of hosting 0")
    return welcome._replace(resumed=bool(welcome.resumed))


def decode_refusal(frame: Frame) -> Refusal:
    """Raises RemoteProtocolError when it is not a Refusal of this version."""
    _check(frame, _REFUSAL)
    code: int
    code, ours, theirs = _REFUSAL.unpack_from(frame.payload)
    known = REFUSED_FOR[code] if code < len(REFUSED_FOR) else REFUSED_FOR[0]
    reason = bytes(frame.payload[_REFUSAL.size :]).decode(errors="replace")
    return Refusal(known, reason, ours, theirs)


def encode_hello(hello: Hello) -> bytes:
    """A whole frame."""
    service, *fields, snapshot = hello
    payload = _HELLO.pack(service.encode("latin-1"), *fields) + snapshot
    return encode(Kind.HELLO, VERSION, MAGIC, payload)


def encode_welcome(welcome: Welcome) -> bytes:
    """A whole frame."""
    *fields, snapshot = welcome
    return encode(Kind.WELCOME, VERSION, MAGIC, _WELCOME.pack(*fields) + snapshot)


def encode_refusal(refusal: Refusal) -> bytes:
    """A whole frame."""
    code, reason, ours, theirs = refusal
    payload = _REFUSAL.pack(REFUSED_FOR.index(code), ours, theirs) + reason.encode()
    return encode(Kind.REFUSAL, VERSION, MAGIC, payload)
