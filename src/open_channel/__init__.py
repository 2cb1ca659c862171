"""Open Channel: the processes of one machine talk to each other, with nothing installed and
nothing started.

Every process opens a channel by name; one of them hosts it inside itself, and when that one dies
another takes over. This package is the asyncio API; ``open_channel.sync`` is the blocking one.
"""

from open_channel.bus.channel import Channel, open_channel
from open_channel.channel.conversation import Peer
from open_channel.channel.socket import ChannelSocket
from open_channel.errors import (
    ChannelClosed,
    ChannelError,
    ChannelForked,
    ConnectTimeout,
    DirectoryInsecure,
    ForeignUser,
    JobLost,
    LocalProtocolError,
    MessageTooLarge,
    NameCollision,
    NameInvalid,
    NoResponders,
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

__all__ = [
    "Channel",
    "ChannelClosed",
    "ChannelError",
    "ChannelForked",
    "ChannelSocket",
    "ConnectTimeout",
    "DirectoryInsecure",
    "ForeignUser",
    "JobLost",
    "Limits",
    "LocalProtocolError",
    "MessageTooLarge",
    "NameCollision",
    "NameInvalid",
    "NoResponders",
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
    "TopicInvalid",
    "VersionMismatch",
    "WaitTimeout",
    "open_channel",
]
