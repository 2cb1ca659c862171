"""A publisher, a subscriber, and who stands for host of the broker.

``publisher``    publishes numbered messages, never hosts
``subscriber``   checks each publisher's numbers, never hosts
``candidate``    a member that may host, and does nothing else
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from struct import Struct
from typing import TYPE_CHECKING

from open_channel import open_channel
from open_channel.cli.demo.bus.tally import Tally
from open_channel.cli.demo.part import FLUSH, LIMITS, REPORT, forever, say, until_first

if TYPE_CHECKING:
    from open_channel import Channel
    from open_channel.bus.subscription import Subscription

__all__ = ["PARTS"]

_MESSAGE = Struct("=Q56x")  # the number; 64 bytes in all, as small messages are
_QUEUE = 1024 * 1024  # bytes that may wait to be checked


# --- who stands for host --------------------------------------------------------------------------


async def _candidate(name: str, directory: str, orders: asyncio.StreamReader) -> None:
    async with open_channel(name, directory=directory, limits=LIMITS):
        say(event="ready")
        await orders.read()


# --- who publishes --------------------------------------------------------------------------------


class _Publisher:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._topic = f"demo.{os.getpid()}"
        self._published = 0
        self._stopped = False

    async def publish(self) -> None:
        pack, publish, topic = _MESSAGE.pack, self._channel.publish, self._topic
        while not self._stopped:
            await publish(topic, pack(self._published))
            self._published += 1

    async def report(self) -> None:
        while True:
            await asyncio.sleep(REPORT)
            self._say("count")

    def _say(self, event: str) -> None:
        say(event=event, published=self._published)

    async def obey(self, orders: asyncio.StreamReader, publishing: asyncio.Future[None]) -> None:
        """Stop at the first order, report when all has arrived or never will; stay to the end."""
        if await orders.readline():
            self._stopped = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await publishing
                    await self._channel.flush()
            self._say("done")
            await orders.read()


async def _publisher(name: str, directory: str, orders: asyncio.StreamReader) -> None:
    async with open_channel(name, directory=directory, limits=LIMITS, hosts=False) as channel:
        say(event="ready")
        publisher = _Publisher(channel)
        publishing = asyncio.ensure_future(publisher.publish())
        await until_first(
            publisher.report(), publisher.obey(orders, publishing), forever(publishing)
        )


# --- who subscribes -------------------------------------------------------------------------------


class _Subscriber:
    def __init__(self, channel: Channel, messages: Subscription) -> None:
        self._channel = channel
        self._messages = messages
        self._tally = Tally()
        self._epoch = 0
        self._expected: int | None = None
        self._complete = asyncio.Event()

    async def listen(self) -> None:
        tally, numbers_of = self._tally, _MESSAGE.iter_unpack
        async for batch in self._messages.batches():
            # All that came from the last host was taken before the next one was connected to.
            epoch = self._channel.stats().epoch
            if epoch != self._epoch:
                self._epoch = epoch
                say(event="host", pid=self._host(), at=time.monotonic_ns())
            tally.take(batch.publisher, [n for (n,) in numbers_of(b"".join(batch.bodies))])
            self._check()
        raise EOFError("the subscription has ended")

    def _host(self) -> int:
        """The host's process id; 0 when it came too shortly ago to be known."""
        members = self._channel.members
        return next((member.pid for member in members if "broker" in member.hosting), 0)

    def _check(self) -> None:
        if self._expected is not None and self._tally.delivered >= self._expected:
            self._complete.set()

    async def report(self) -> None:
        while True:
            await asyncio.sleep(REPORT)
            self._say("count")

    def _say(self, event: str) -> None:
        tally = self._tally
        say(
            event=event,
            delivered=tally.delivered,
            duplicated=tally.duplicated,
            misordered=tally.misordered,
        )

    async def obey(self, orders: asyncio.StreamReader) -> None:
        """At an order with the number of all messages, wait for them, report, stay to the end."""
        if order := await orders.readline():
            self._expected = int(order.split()[-1])
            self._check()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH):
                    await self._complete.wait()
            self._say("done")
            await orders.read()


async def _subscriber(name: str, directory: str, orders: asyncio.StreamReader) -> None:
    # "block", since what is shown is that nothing is lost to a host's death: a subscriber that
    # counts more slowly than others publish would lose something to its full queue.
    async with (
        open_channel(name, directory=directory, limits=LIMITS, hosts=False) as channel,
        channel.subscribe("demo.*", overflow="block", queue=_QUEUE) as messages,
    ):
        say(event="ready")
        subscriber = _Subscriber(channel, messages)
        await until_first(subscriber.listen(), subscriber.report(), subscriber.obey(orders))


PARTS = {"publisher": _publisher, "subscriber": _subscriber, "candidate": _candidate}
