"""An innocent member in a process of its own, beside others that are hostile.

It publishes, subscribes, works, serves and asks, all at once, and minds its own and its like's
messages only; others publish whatever they like to the same topics. It is told to stop by a line on
its standard input, and tells then what it has seen.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import struct
import sys
from collections import Counter
from typing import Any

from open_channel import Channel, ChannelError, Limits, open_channel

BODY = struct.Struct("=4sQ")
MARK = b"fair"


def tell(**event: Any) -> None:
    os.write(1, (json.dumps(event) + "\n").encode())


def number_of(body: bytes) -> int | None:
    """The number in the body of a message that one of our like has published."""
    if len(body) != BODY.size:
        return None
    mark, number = BODY.unpack(body)
    return int(number) if mark == MARK else None


class Innocent:
    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.stop = asyncio.Event()
        self.last: dict[str, int] = {}
        self.wrong: list[str] = []
        self.missed = 0
        self.jobs: list[tuple[str, int]] = []
        self.outcomes: Counter[str] = Counter()
        self.published = 0
        self.ready = 0

    async def publish(self) -> None:
        while not self.stop.is_set():
            self.published += 1
            body = BODY.pack(MARK, self.published)
            await self.channel.publish("news", body)
            await self.channel.publish("held", body)
            await self.channel.publish("jobs", body)
            await asyncio.sleep(0.004)

    async def subscribe(self, pattern: str, overflow: Any) -> None:
        async with self.channel.subscribe(pattern, overflow=overflow) as messages:
            self.ready += 1
            async for message in messages:
                self.missed += max(message.missed, 0)
                number = number_of(message.body)
                if number is None or message.topic not in {"news", "held"}:
                    continue
                stream = f"{pattern} {message.topic} {message.sender}"
                before = self.last.get(stream, number - 1)
                if number != before + 1:
                    self.wrong.append(f"{stream}: {number} after {before}")
                self.last[stream] = number

    async def work(self) -> None:
        async with self.channel.subscribe("jobs", group="g") as jobs:
            self.ready += 1
            async for job in jobs:
                number = number_of(job.body)
                if number is not None:
                    self.jobs.append((job.sender, number))

    async def serve(self) -> None:
        async with self.channel.serve("price", lambda request: request.body + b"!"):
            self.ready += 1
            await asyncio.Event().wait()

    async def ask(self) -> None:
        while not self.stop.is_set():
            try:
                reply = await self.channel.request("price", b"what", timeout=20.0)
                outcome = "reply" if reply == b"what!" else f"the reply {reply!r}"
            except ChannelError as error:
                outcome = type(error).__name__
            self.outcomes[outcome] += 1
            await asyncio.sleep(0.02)

    def report(self) -> None:
        tell(
            last=self.last,
            wrong=self.wrong[:5],
            missed=self.missed,
            jobs=self.jobs,
            outcomes=self.outcomes,
            published=self.published,
            takeovers=self.channel.stats().takeovers,
        )


async def main(limits: dict[str, Any], hosts: bool) -> None:
    loop = asyncio.get_running_loop()
    async with open_channel("shop", hosts=hosts, limits=Limits(**limits)) as channel:
        tell(opened=channel.member)
        commands: asyncio.Queue[str] = asyncio.Queue()
        loop.add_reader(0, lambda: commands.put_nowait(os.read(0, 4096).decode()))
        if not hosts:
            await act(channel, commands)
        while await commands.get():
            pass  # until standard input is closed


async def act(channel: Channel, commands: asyncio.Queue[str]) -> None:
    me = Innocent(channel)
    tasks = [
        asyncio.create_task(coroutine)
        for coroutine in (
            me.subscribe(">", "drop_oldest"),
            me.subscribe("held", "block"),
            me.work(),
            me.serve(),
        )
    ]
    while me.ready < len(tasks):
        await asyncio.sleep(0.01)
    tell(ready=True)
    await commands.get()
    talking = [asyncio.create_task(me.publish()), asyncio.create_task(me.ask())]
    await commands.get()
    me.stop.set()
    await asyncio.gather(*talking)
    await channel.flush()
    tell(flushed=me.published)
    while await commands.get():
        me.report()


if __name__ == "__main__":
    hosts = sys.argv[2] == "host"
    # That a member loses its connection is news of the level INFO.
    level = logging.WARNING if hosts else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1]), hosts))
