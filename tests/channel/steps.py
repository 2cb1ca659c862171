"""What the tests of channels do again and again: opening, waiting, cutting, sizes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from open_channel import Channel, ChannelSocket, open_channel

DEADLINE = 20.0  # seconds; what takes longer than that never happens


class Opener:
    """Opens channels, and closes them all at the end of a test."""

    def __init__(self) -> None:
        self._channels: list[Channel] = []

    def __call__(self, *arguments: Any, **options: Any) -> Channel:
        channel = open_channel(*arguments, **options)
        self._channels.append(channel)
        return channel

    async def connected(self, *arguments: Any, **options: Any) -> tuple[Channel, ChannelSocket]:
        channel = self(*arguments, **options)
        socket = channel.connect()
        await socket.wait_connected()
        return channel, socket

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(timeout=0)


async def eventually(condition: Callable[[], object], *, every_turn: bool = False) -> None:
    """Wait until a condition holds; fail when it does not in time.

    With ``every_turn`` it is looked at in each turn of the loop, so that nothing is missed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < deadline, "it did not come true"
        await asyncio.sleep(0 if every_turn else 0.001)


def cut(socket: ChannelSocket) -> bool:
    """Cut the connection that a socket has now; False when it has none."""
    wire = socket._io.wire
    if wire is None:
        return False
    wire.abort("cut")
    return True


async def cut_and_mend(socket: ChannelSocket) -> None:
    """Cut the connection that a socket has now, and wait for the next one."""
    old = socket._io.wire
    assert cut(socket)
    await eventually(lambda: socket._io.wire not in {None, old})


async def echo(socket: ChannelSocket) -> None:
    async for message in socket:
        socket.write(message)


def mixed_messages(count: int, seed: int) -> list[bytes]:
    """Numbered messages of mixed sizes: mostly small, some beyond a batch."""
    chance = random.Random(seed)
    sizes = chance.choices([0, 1, 20, 300, 5000, 70_000], [10, 20, 50, 19, 0.9, 0.1], k=count)
    return [b"%d " % number + bytes(size) for number, size in enumerate(sizes)]
