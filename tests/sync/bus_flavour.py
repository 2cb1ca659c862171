"""The blocking bus in the clothes of the asyncio one, so that the same tests can be run on it.

What waits does so in a thread. A handler, which has a thread of its own, runs an event loop there
when it is a coroutine function.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from open_channel.sync import Channel, Lock, Service, Subscription, open_channel
from tests.channel.steps import DEADLINE


def plain(function: Any) -> Any:
    """The function itself, or one that runs the coroutine function in a loop of its own."""
    if not inspect.iscoroutinefunction(function):
        return function
    return lambda *arguments: asyncio.run(function(*arguments))


class Threads:
    """Threads that block, enough of them for all that waits at once in a test."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(300)
        self._single: list[ThreadPoolExecutor] = []

    async def wait(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: function(*arguments, **options))

    async def iterate(self, iterator: Iterator[Any]) -> AsyncIterator[Any]:
        while (item := await self.wait(next, iterator, None)) is not None:
            yield item

    def one(self) -> ThreadPoolExecutor:
        """One thread of somebody's own."""
        self._single.append(ThreadPoolExecutor(1))
        return self._single[-1]

    def end(self) -> None:
        for pool in (self._pool, *self._single):
            pool.shutdown(wait=True)


class BlockInClothes:
    """``with`` as ``async with``."""

    def __init__(self, block: Lock | Service | Subscription, threads: Threads) -> None:
        self.block = block
        self.threads = threads

    async def __aenter__(self) -> Any:
        await self.threads.wait(self.block.__enter__)
        return self

    async def __aexit__(self, *failure: Any) -> None:
        await self.threads.wait(self.block.__exit__, *failure)


class SubscriptionInClothes(BlockInClothes):
    block: Subscription

    def __init__(self, block: Subscription, threads: Threads) -> None:
        super().__init__(block, threads)
        self._one = threads.one()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)

    async def get(self) -> Any:
        # In one thread, so that all is in one hand, as with the asyncio one: a job is done when
        # the thread that got it asks for the next.
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._one, self.block.get, DEADLINE)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.threads.iterate(iter(self.block))

    def batches(self) -> AsyncIterator[Any]:
        return self.threads.iterate(self.block.batches())


class ChannelInClothes:
    def __init__(self, channel: Channel, threads: Threads) -> None:
        self.channel = channel
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.channel, name)
        if name in {"publish", "flush", "request", "request_all", "close"}:
            return lambda *arguments, **options: self._threads.wait(function, *arguments, **options)
        return function

    def subscribe(self, *arguments: Any, **options: Any) -> SubscriptionInClothes:
        subscription = self.channel.subscribe(*arguments, **options)
        return SubscriptionInClothes(subscription, self._threads)

    def serve(self, topic: str, handler: Any, **options: Any) -> BlockInClothes:
        service = self.channel.serve(topic, plain(handler), **options)
        return BlockInClothes(service, self._threads)

    def watch_members(self) -> AsyncIterator[Any]:
        return self._threads.iterate(self.channel.watch_members())

    def lock(self, *arguments: Any, **options: Any) -> BlockInClothes:
        return BlockInClothes(self.channel.lock(*arguments, **options), self._threads)

    async def lead(self, name: str, run: Any) -> Any:
        return await self._threads.wait(self.channel.lead, name, plain(run))


class Joiner:
    """Opens one more member of the channel "shop"; all are closed when the test is over."""

    def __init__(self) -> None:
        self._threads = Threads()
        self._channels: list[Channel] = []

    async def __call__(self, **options: Any) -> ChannelInClothes:
        channel = open_channel("shop", **options)
        self._channels.append(channel)
        await self._threads.wait(channel.__enter__)
        return ChannelInClothes(channel, self._threads)

    async def close(self) -> None:
        for channel in self._channels:
            await self._threads.wait(channel.close, 0)
        self._threads.end()
