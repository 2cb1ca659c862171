"""Open Channel: the processes of one machine talk to each other, with nothing installed and
nothing started.

Every process opens a channel by name; one of them hosts it inside itself, and when that one dies
another takes over. This package is the asyncio API; ``open_channel.sync`` is the blocking one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.channel import Channel, open_channel
from open_channel.channel.conversation import Peer
from open_channel.channel.socket import ChannelSocket
from open_channel.errors import (
    ChannelClosed,
    ChannelError,
    ChannelForked,
    ConnectTimeout,
    DirectoryInsecure,
    ForeignThread,
    ForeignUser,
    JobLost,
    LocalProtocolError,
    MessageTooLarge,
    NameCollision,
    NameInvalid,
    NoResponders,
    NoThread,
    OutboxFull,
    PathTooLong,
    PayloadInvalid,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    RequestError,
    RequestTimeout,
    ResponderDied,
    ResponderError,
    TopicInvalid,
    VersionMismatch,
    WaitTimeout,
)
from open_channel.protocol.limits import Limits

if TYPE_CHECKING:
    from open_channel.bus.locks import Lock
    from open_channel.bus.members import Member, MemberChange, MemberChanges, Stats
    from open_channel.bus.message import Batch, Job, Message
    from open_channel.bus.service import Service
    from open_channel.bus.subscription import Subscription

    __version__: str
    """The version that is installed."""

__all__ = [
    "Batch",
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelForked",
    "ChannelSocket",
    "ConnectTimeout",
    "DirectoryInsecure",
    "ForeignThread",
    "ForeignUser",
    "Job",
    "JobLost",
    "Limits",
    "LocalProtocolError",
    "Lock",
    "Member",
    "MemberChange",
    "MemberChanges",
    "Message",
    "MessageTooLarge",
    "NameCollision",
    "NameInvalid",
    "NoResponders",
    "NoThread",
    "OutboxFull",
    "PathTooLong",
    "PayloadInvalid",
    "Peer",
    "ProtocolError",
    "Refused",
    "RemoteProtocolError",
    "RequestError",
    "RequestTimeout",
    "ResponderDied",
    "ResponderError",
    "Service",
    "Stats",
    "Subscription",
    "TopicInvalid",
    "VersionMismatch",
    "WaitTimeout",
    "open_channel",
]

# What the bus gives to its users is imported with the first look at it: `import open_channel` alone
# costs no more than what a channel without the bus needs.
_LATER = {
    "Batch": "message",
    "Job": "message",
    "Lock": "locks",
    "Member": "members",
    "MemberChange": "members",
    "MemberChanges": "members",
    "Message": "message",
    "Service": "service",
    "Stats": "members",
    "Subscription": "subscription",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def __getattr__(name: str) -> object:
    if name == "__version__":
        found: object = _version()
    elif name in _LATER:
        from importlib import import_module

        found = getattr(import_module(f"open_channel.bus.{_LATER[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def _version() -> str:
    from importlib import metadata  # it costs as much as half of this package

    try:
        return metadata.version("open-channel")
    except metadata.PackageNotFoundError as error:
        raise AttributeError("open_channel is not installed, and so has no version") from error
