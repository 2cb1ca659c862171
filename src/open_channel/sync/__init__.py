"""The blocking API: the same names as ``open_channel`` without ``await``, usable from any thread.

It is a typed facade over the asyncio API, which runs in the process's one background thread; there
is no second implementation of anything. A channel that was opened before a fork opens itself again
in the child, as a new member, with its next use; what was subscribed, served or watched through it
stays the parent's, and raises ChannelForked in the child.
"""

from __future__ import annotations

from open_channel.sync.channel import Channel, open_channel
from open_channel.sync.locks import Lock
from open_channel.sync.members import MemberChanges
from open_channel.sync.service import Service
from open_channel.sync.socket import ChannelSocket
from open_channel.sync.subscription import Subscription

__all__ = [
    "Channel",
    "ChannelSocket",
    "Lock",
    "MemberChanges",
    "Service",
    "Subscription",
    "open_channel",
]
