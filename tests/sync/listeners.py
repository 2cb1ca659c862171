"""Listeners that several tests of the blocking API use."""

from __future__ import annotations

from open_channel.sync import ChannelSocket


def echo(socket: ChannelSocket) -> None:
    for message in socket:
        socket.write(message)
