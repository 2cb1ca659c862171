"""The blocking API: the same names as ``open_channel`` without ``await``, usable from any thread.

It is a typed facade over the asyncio API, which runs in the process's one background thread; there
is no second implementation of anything. A channel that was opened before a fork opens itself again
in the child, as a new member, with its next use.
"""

from open_channel.sync.channel import Channel, open_channel
from open_channel.sync.socket import ChannelSocket

__all__ = ["Channel", "ChannelSocket", "open_channel"]
