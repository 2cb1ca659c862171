"""The blocking API in the clothes of the asyncio one, so that the same tests can be run on it.

What waits does so in a thread. A listener, which has a thread of its own, runs an event loop there
in which it simply blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from open_channel.sync import Channel, ChannelSocket, open_channel
from tests.channel.steps import DEADLINE

Wait = Callable[..., Awaitable[Any]]


async def _block(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


class SocketInClothes:
    def __init__(self, socket: ChannelSocket, wait: Wait) -> None:
        self.socket = socket
        self._wait = wait
        self.write = socket.write
        self.destroy = socket.destroy

    @property
    def peer(self) -> Any:
        return self.socket.peer

    @property
    def at_end(self) -> bool:
        return self.socket.at_end

    @property
    def redelivered(self) -> bool:
        return self.socket.redelivered

    async def read(self) -> Any:
        return await self._wait(self.socket.read, DEADLINE)

    async def drain(self) -> None:
        await self._wait(self.socket.drain, DEADLINE)

    async def wait_connected(self) -> None:
        await self._wait(self.socket.wait_connected, DEADLINE)

    async def close(self, timeout: float = 5.0) -> None:
        await self._wait(self.socket.close, timeout)

    def __aiter__(self) -> SocketInClothes:
        return self

    async def __anext__(self) -> Any:
        message = await self._wait(next, self.socket, None)
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> SocketInClothes:
        await self._wait(self.socket.__enter__)
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self._wait(self.socket.__exit__, *failure)


class ChannelInClothes:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._socket: SocketInClothes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.channel, name)

    def connect(self, *arguments: Any, **options: Any) -> SocketInClothes:
        socket = self.channel.connect(*arguments, **options)
        if self._socket is None or self._socket.socket is not socket:
            self._socket = SocketInClothes(socket, asyncio.to_thread)
        return self._socket

    async def close(self) -> None:
        await asyncio.to_thread(self.channel.close)

    async def wait_closed(self) -> None:
        await asyncio.to_thread(self.channel.close)


class Opener:
    """Opens channels of the blocking API, and closes them all at the end of a test."""

    def __init__(self) -> None:
        self._channels: list[Channel] = []

    def __call__(self, *arguments: Any, **options: Any) -> ChannelInClothes:
        arguments = tuple(dress(value) if callable(value) else value for value in arguments)
        channel = open_channel(*arguments, **options)
        self._channels.append(channel)
        return ChannelInClothes(channel)

    def close(self) -> None:
        for channel in self._channels:
            channel.close(timeout=0)


def dress(listener: Callable[[Any], Awaitable[None]]) -> Callable[[ChannelSocket], None]:
    async def listen(socket: ChannelSocket) -> None:
        await listener(SocketInClothes(socket, _block))

    return lambda socket: asyncio.run(listen(socket))
