"""Records: what hosts and members publish of themselves in files, as one line of JSON each.

A person can read them, and so can a program in any language. A reader finds a whole record or
none: whatever is half written, of another shape or of other types is no record.
"""

import re
from typing import Any, NamedTuple, cast

from open_channel.arguments import check_labels
from open_channel.protocol.limits import LONGEST_HEARTBEAT

__all__ = [
    "HostRecord",
    "MemberRecord",
    "decode_host",
    "decode_member",
    "encode_record",
    "is_member_id",
]

is_member_id = re.compile("[0-9a-f]{32}").fullmatch
"""Whether a text is a member's id, as it stands in records and in names of files."""


class HostRecord(NamedTuple):
    """The content of a lock file: who hosts the service."""

    name: str
    """The channel's name."""
    service: str
    hosting: int
    """A random number of this hosting alone. Sessions resume against it, never against epochs."""
    epoch: int
    """Counts the hosts of this service; it only grows while the file is there."""
    socket: str
    """The file name of this hosting's socket, in the same directory."""
    pid: int
    member: str
    since: float
    """When this hosting began, in seconds since 1970."""
    heartbeat: float = 1.0
    """This host is never silent, or without a pulse, for longer than this, in seconds."""
    lineage: int = 0
    """The first hosting of this lock file. Another than before says that the file was deleted
    meanwhile, and members' files with it maybe."""


class MemberRecord(NamedTuple):
    """The content of a presence file: who this member is."""

    name: str
    """The channel's name."""
    member: str
    """Its random id, 32 hexadecimal digits."""
    pid: int
    since: float
    """When it opened the channel, in seconds since 1970."""
    listens: bool
    """Whether it can host the listener service."""
    bus: bool
    """Whether it takes part in publish/subscribe: a new broker waits for it."""
    labels: dict[str, str]
    """What it says of itself; whoever takes the record leaves them as they are."""


def encode_record(record: HostRecord | MemberRecord) -> bytes:
    """One line."""
    import json  # 2 ms of import that a program need not pay before it connects

    return json.dumps(record._asdict()).encode() + b"\n"


def _fields(content: bytes, types: dict[str, type]) -> dict[str, Any] | None:
    """The fields, each of its type; None when this is not such a record."""
    if not content.endswith(b"\n"):
        return None
    import json

    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    fields = {name: cast("dict[str, Any]", found).get(name) for name in types}
    return fields if all(type(fields[name]) is kind for name, kind in types.items()) else None


_HOST = {
    "name": str,
    "service": str,
    "hosting": int,
    "epoch": int,
    "socket": str,
    "pid": int,
    "member": str,
    "since": float,
    "heartbeat": float,
    "lineage": int,
}
_MEMBER = {
    "name": str,
    "member": str,
    "pid": int,
    "since": float,
    "listens": bool,
    "bus": bool,
    "labels": dict,
}


def decode_host(content: bytes) -> HostRecord | None:
    """The record; None while there is none, or one that is only half written."""
    fields = _fields(content, _HOST)
    if fields is None:
        return None
    # Both travel as 64 bits, and the next epoch too.
    if not 0 < fields["hosting"] < 2**64 or not 0 < fields["epoch"] < 2**64 - 1:
        return None
    if not 0 <= fields["lineage"] < 2**64:
        return None
    if not 0 < fields["heartbeat"] <= LONGEST_HEARTBEAT:
        return None
    # The name of a file in the same directory, and nothing that leads elsewhere.
    socket = fields["socket"]
    if "/" in socket or not socket.isprintable() or socket in {"", ".", ".."}:
        return None
    return HostRecord(**fields)


def decode_member(content: bytes) -> MemberRecord | None:
    """The record; None while there is none, or one that is only half written."""
    fields = _fields(content, _MEMBER)
    if fields is None or not is_member_id(fields["member"]):
        return None
    try:
        check_labels(fields["labels"])
    except (TypeError, ValueError):
        return None
    return MemberRecord(**fields)
