"""A process that is a member of the channel "shop" and does what its standard input says.

It tells its test what it is up to in lines of JSON, and writes all that it published, received,
began and finished to its ledger: a file that survives whatever is done to it (see ``ledger.py``).
It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from open_channel import Channel, ChannelError, Limits, open_channel
from open_channel.bus.subscription import Overflow

TICK = 0.001  # seconds between two looks of who publishes whether it should stop


@dataclass
class Config:
    name: str = ""
    ledger: str = ""
    hosts: bool = True
    uvloop: bool = False
    limits: dict[str, float] = field(default_factory=dict)
    count: int = 1  # processes, forked at once, each a member and nothing else


def tell(**event: Any) -> None:
    os.write(1, (json.dumps({"pid": os.getpid(), **event}) + "\n").encode())


class Member:
    def __init__(self, config: Config, channel: Channel) -> None:
        self.config = config
        self.channel = channel
        self.loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        self.publishing = self.requesting = True
        self.leaves = False
        self.nothing = -1
        self.tasks: set[asyncio.Task[None]] = set()
        self.ledger = os.open(config.ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *entry: Any) -> None:
        """One line, in the kernel's hands when this returns."""
        os.write(self.ledger, (json.dumps([*entry, time.monotonic()]) + "\n").encode())

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            tell(failed=repr(error))

    async def run(self) -> None:
        self.loop.add_reader(0, self.command)
        await self.over.wait()
        self.loop.remove_reader(0)
        if self.leaves:
            await self.channel.close()
            tell(closed=True)

    def command(self) -> None:
        lines = os.read(0, 65536)
        if not lines:
            self.over.set()
            self.loop.remove_reader(0)
        for line in lines.splitlines():
            do, arguments = json.loads(line)
            getattr(self, f"do_{do}")(**arguments)

    # --- messages --------------------------------------------------------------------------

    def do_publish(
        self,
        topic: str,
        pause: float = TICK,
        burst: int = 1,
        size: int = 0,
        others: tuple[str, ...] = (),
    ) -> None:
        self.start(self.publish((topic, *others), pause, burst, size))

    async def publish(self, topics: tuple[str, ...], pause: float, burst: int, size: int) -> None:
        """Publish 0, 1, 2, ... to each topic until told to stop; wait until all have arrived."""
        name, number = self.config.name, 0
        while self.publishing:
            for _ in range(burst):
                for topic in topics:
                    # Written down first: what was received was published, whenever the end comes.
                    self.note("published", topic, number)
                    message = [name, number, time.monotonic(), b"." * size]
                    await self.channel.publish(topic, message)
                number += 1
            await asyncio.sleep(pause)
        without = await self.channel.flush()
        self.note("flushed", topics[0], number, without)
        tell(flushed=number, topic=topics[0], without=without)

    def do_stop_publishing(self) -> None:
        self.publishing = False

    def do_subscribe(self, pattern: str, **options: Any) -> None:
        self.start(self.subscribe(pattern, **options))

    async def subscribe(self, pattern: str, overflow: Overflow = "drop_oldest") -> None:
        async with self.channel.subscribe(pattern, overflow=overflow) as messages:
            self.note("subscribed", pattern)
            tell(subscribed=pattern)
            async for message in messages:
                publisher, number, at, _ = message.data
                self.note("got", message.topic, publisher, number, message.missed, at)

    # --- jobs ------------------------------------------------------------------------------

    def do_work(self, pattern: str, group: str, takes: float = 0.0, prefetch: int = 8) -> None:
        self.start(self.work(pattern, group, takes, prefetch))

    async def work(self, pattern: str, group: str, takes: float, prefetch: int) -> None:
        async with self.channel.subscribe(pattern, group=group, prefetch=prefetch) as jobs:
            tell(works=pattern)
            async for job in jobs:
                publisher, number, _, _ = job.data
                self.note("began", job.topic, publisher, number, job.redelivered)
                await asyncio.sleep(takes)
                self.note("did", job.topic, publisher, number)

    # --- requests --------------------------------------------------------------------------

    def do_serve(self, topic: str, takes: float = 0.0) -> None:
        self.start(self.serve(topic, takes))

    async def serve(self, topic: str, takes: float) -> None:
        async def answer(request: Any) -> Any:
            self.note("asked", *request.data)
            await asyncio.sleep(takes)
            return [*request.data, self.config.name]

        async with self.channel.serve(topic, answer):
            tell(serves=topic)
            await self.over.wait()

    def do_request(self, topic: str, timeout: float = 5.0, pause: float = TICK) -> None:
        self.start(self.request(topic, timeout, pause))

    async def request(self, topic: str, timeout: float, pause: float) -> None:
        number = 0
        while self.requesting:
            start = time.monotonic()
            self.note("request", topic, number)
            try:
                asked = [self.config.name, number]
                *same, by = await self.channel.request(topic, asked, timeout=timeout)
                outcome = "reply" if same == asked else f"the reply to {same}"
            except ChannelError as error:
                outcome, by = type(error).__name__, ""
            self.note("outcome", topic, number, outcome, by, time.monotonic() - start)
            number += 1
            await asyncio.sleep(pause)
        tell(requested=number)

    def do_stop_requesting(self) -> None:
        self.requesting = False

    # --- members ---------------------------------------------------------------------------

    def do_watch(self) -> None:
        self.start(self.watch())

    async def watch(self) -> None:
        tell(watching=True)
        async for change in self.channel.watch_members():
            tell(change=change.kind, who=change.member.pid)

    def do_state(self, question: int) -> None:
        stats, members = self.channel.stats(), self.channel.members
        tell(
            question=question,
            members=[member.pid for member in members],
            host=next((member.pid for member in members if member.hosting), 0),
            epoch=stats.epoch,
            takeovers=stats.takeovers,
            unacknowledged=stats.unacknowledged,
            missed=stats.missed,
            duplicates=stats.duplicates,
            without=stats.left_out,
        )

    # --- what befalls a process ------------------------------------------------------------

    def do_block(self, seconds: float) -> None:
        """Block the event loop."""
        tell(blocking=seconds)
        time.sleep(seconds)
        tell(blocked=seconds)

    def do_hold(self, seconds: float) -> None:
        """Hold the interpreter: no thread of this process goes on."""
        tell(blocking=seconds)
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
        tell(blocked=seconds)

    def do_fork(self) -> None:
        if child := os.fork():
            tell(forked=child)
            return
        try:
            self.channel.publish_nowait("news", ["child", 0, 0.0, b""])
        except ChannelError as error:
            tell(child=type(error).__name__)
        # What the parent is told next is not for it.
        nothing, self.nothing = os.pipe()
        os.dup2(nothing, 0)
        # asyncio knows that this is another process: no loop runs in it.
        asyncio.run(main(Config(f"{self.config.name}'s child", f"{self.config.ledger}.child")))
        os._exit(0)

    def do_close(self) -> None:
        """Leave in order."""
        self.leaves = True
        self.over.set()

    def do_return(self) -> None:
        """Let the event loop end under the open channel; the process lives on."""
        self.over.set()


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Member]:
    limits = Limits(**config.limits)  # type: ignore[arg-type]
    channel = open_channel("shop", hosts=config.hosts, limits=limits)
    await channel.__aenter__()  # it is closed when told so, and only then
    member = Member(config, channel)
    member.note("opened", config.name, channel.member)
    tell(opened=channel.member)
    yield member


async def main(config: Config) -> None:
    async with opened(config) as member:
        await member.run()


def run(config: Config) -> None:
    if config.uvloop:
        import_module("uvloop").run(main(config))
    else:
        asyncio.run(main(config))
    tell(loop_ended=True)


def crowd(config: Config) -> None:
    """Fork all the processes first, then let them go at once."""
    import_module("open_channel.bus.client")  # once, not in each of them
    go, gone = os.pipe()
    for number in range(config.count):
        if not os.fork():
            os.close(gone)
            os.read(go, 1)
            run(Config(f"{config.name}{number}", os.devnull, limits=config.limits))
            os._exit(0)
    os.close(gone)
    tell(crowd=config.count, at_once=time.monotonic())
    sys.stdin.read()


if __name__ == "__main__":
    logging.basicConfig(
        level=logging.INFO if os.environ.get("BUS_LOG") else logging.WARNING,
        format="%(created).3f %(levelname)s %(message)s",
    )
    config = Config(**json.loads(sys.argv[1]))
    if config.count > 1:
        crowd(config)
    else:
        run(config)
        sys.stdin.read()
