"""The parts of a chaos run on asyncio's or uvloop's event loop.

Each process is a member of one channel and plays one part, until its standard input says "finish"
(end in order what was begun) and "leave". What it does it writes down; nothing is judged here.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import time
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

from open_channel import (
    Channel,
    ChannelClosed,
    ChannelError,
    ChannelSocket,
    JobLost,
    WaitTimeout,
    open_channel,
)
from open_channel.bus.subscription import Subscription
from tests.chaos.notes import Config, Notes, measure, warm_up, warm_up_loop
from tests.chaos.part import ANSWERS, CHANNEL, FLUSHES, Part

__all__ = ["live"]


class Actor(Part):
    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.loop = asyncio.get_running_loop()
        self.finishing = asyncio.Event()
        self.leaving = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self.busy = False
        self.channel: Channel

    # --- the life --------------------------------------------------------------------------

    async def live(self) -> None:
        before = measure()
        watching = self.loop.create_task(self.watch.watch_loop())
        listener = self.listen if self.config.role == "listener" else None
        channel = self.channel = open_channel(
            CHANNEL,
            listener,
            directory=self.config.directory,
            hosts=self.config.hosts,
            limits=self.limits,
            labels=self.labels,
        )
        with self.watch.call("opening"):
            await channel.__aenter__()
        self.note("opened", channel.member)
        if self.config.lasts:
            self.loop.call_later(self.config.lasts, self.do_leave)
        else:
            self.loop.add_reader(0, self.obey)
        await self.play()
        self.note("finished")
        await self.leaving.wait()
        self.loop.remove_reader(0)
        start = time.monotonic()
        with self.watch.call("closing"):
            await channel.close()
        self.note("left", time.monotonic() - start)
        watching.cancel()
        left = time.monotonic()
        while not self.settled(before, left):
            await asyncio.sleep(0.01)

    async def play(self) -> None:
        try:
            await getattr(self, f"play_{self.config.role}")()
        except BaseException as error:
            self.note("failed", repr(error), traceback.format_exc())
            raise

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def run() -> None:
            try:
                await coroutine
            except Exception as error:
                self.note("failed", repr(error), traceback.format_exc())

        task = self.loop.create_task(run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def rest(self, seconds: float) -> None:
        """Wait so long, unless it should finish."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.finishing.wait()

    # --- what it is told -------------------------------------------------------------------

    def obey(self) -> None:
        lines = os.read(0, 65536)
        if not lines:
            os._exit(3)  # the run is over
        for line in lines.splitlines():
            do, arguments = json.loads(line)
            getattr(self, f"do_{do}")(**arguments)

    def do_finish(self) -> None:
        self.finishing.set()

    def do_leave(self) -> None:
        self.finishing.set()
        self.leaving.set()

    def do_block(self, seconds: float) -> None:
        time.sleep(seconds)

    def do_hold(self, seconds: float) -> None:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))

    def do_state(self, question: int) -> None:
        members = self.channel.members
        host = next((member.pid for member in members if "broker" in member.hosting), 0)
        self.note("state", question, sorted(member.pid for member in members), host)

    def do_fork(self, **changes: Any) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the child
        if os.fork():
            return
        try:
            config = replace(self.config, **changes)
            outcome = ""
            try:
                self.channel.publish_nowait("news.a", ["nobody", 0, 0.0, b""])
            except ChannelError as error:
                outcome = type(error).__name__
            Notes(config.ledger)("in child", outcome)
            # asyncio knows that this is another process: no loop runs in it.
            live(config)
        finally:
            os._exit(0)

    # --- publish and subscribe -------------------------------------------------------------

    async def play_publisher(self) -> None:
        while not self.finishing.is_set():
            for family, count in self.options["families"].items():
                for _ in range(count):
                    await self.publish(family)
            await self.rest(self.pause())
        with self.watch.call("flush", FLUSHES):
            without = await self.channel.flush()
        self.note("flushed", self.numbers, without)

    async def publish(self, family: str) -> None:
        topic, data = self.next_message(family)
        draw = self.chance.random()
        if draw < 0.03:
            self.channel.publish_nowait(topic, data)
        elif draw < 0.05 and family == "news":
            with self.watch.call("publish with confirmation", FLUSHES):
                without = await self.channel.publish(topic, data, confirm=True)
            self.note("confirmed", family, data[1], without)
        else:
            with self.watch.call("publish", FLUSHES):
                await self.channel.publish(topic, data)

    async def play_subscriber(self) -> None:
        pattern, takes = self.options["pattern"], self.options.get("takes", 0.0)
        options = {k: v for k, v in self.options.items() if k in {"overflow", "queue"}}
        messages = self.channel.subscribe(pattern, **options)
        with self.watch.call("subscribe"):
            await messages.__aenter__()
        self.note("subscribed", pattern)
        self.start(self.end_subscription(messages))
        async for message in messages:
            self.note_message(message)
            if takes and not self.finishing.is_set():
                await asyncio.sleep(takes)
        self.note("unsubscribed", messages.missed)

    async def end_subscription(self, messages: Subscription) -> None:
        await self.finishing.wait()
        messages.end()

    # --- jobs and requests -----------------------------------------------------------------

    async def play_worker(self) -> None:
        with self.watch.call("subscribe to jobs"):
            jobs = self.channel.subscribe("jobs.*", group="g", prefetch=self.options["prefetch"])
            await jobs.__aenter__()
        self.note("works")
        self.start(self.end_when_idle(jobs))
        async for job in jobs:
            self.busy = True
            await self.work(job)
            if self.finishing.is_set():
                break
            self.busy = False  # asking for the next job settles this one, with no turn between
        jobs.end()

    async def end_when_idle(self, jobs: Subscription) -> None:
        await self.finishing.wait()
        if not self.busy:
            jobs.end()

    async def work(self, job: Any) -> None:
        publisher, number = self.begin_job(job)
        await asyncio.sleep(self.options["takes"])
        if self.chance.random() < 0.01:
            self.note("rejects", publisher, number)
            with suppress(JobLost, ChannelClosed):
                job.reject()
            return
        self.note("did", publisher, number)
        if self.finishing.is_set() or self.chance.random() < 0.5:
            try:
                job.ack()
            except (JobLost, ChannelClosed) as error:
                self.note("not acknowledged", publisher, number, type(error).__name__)

    async def play_responder(self) -> None:
        async def answer(request: Any) -> Any:
            reply = self.note_asked(request)
            await asyncio.sleep(self.options["takes"])
            return reply

        service = self.channel.serve("price", answer)
        with self.watch.call("serve"):
            await service.__aenter__()
        self.note("serves")
        await self.finishing.wait()
        with self.watch.call("the end of serving"):
            await service.__aexit__(None, None, None)

    async def play_requester(self) -> None:
        number = 0
        while not self.finishing.is_set():
            await self.request(number)
            number += 1
            await self.rest(self.pause())

    async def request(self, number: int) -> None:
        kind, to = self.draw_request(self.channel)
        start = time.monotonic()
        self.note("request", number, kind, to)
        asked, by = self.ask(number, kind), list[str]()
        timeout = self.options["timeout"]
        try:
            with self.watch.call("request", timeout + 10.0):
                if kind == "all":
                    replies = await self.channel.request_all("price", asked, timeout=timeout)
                    outcome, by = self.judge_replies(number, replies)
                else:
                    reply = await self.channel.request(
                        "price", asked, to=to or None, timeout=timeout
                    )
                    outcome, by = self.judge_reply(number, reply)
        except ChannelError as error:
            outcome = type(error).__name__
        self.note("outcome", number, kind, outcome, by, time.monotonic() - start)

    # --- locks -----------------------------------------------------------------------------

    async def play_locker(self) -> None:
        while not self.finishing.is_set():
            name, timeout = self.draw_lock()
            lock = self.channel.lock(name, timeout=timeout)
            self.note("wants", name)
            try:
                with self.watch.call("lock"):
                    await lock.acquire()
            except WaitTimeout:
                self.note("no lock", name, timeout)
            else:
                self.note("locked", name)
                await asyncio.sleep(self.options["takes"] * self.chance.random())
                self.note("unlocks", name, lock.held)
                lock.release()
            await self.rest(self.pause())

    async def play_leader(self) -> None:
        async def run() -> None:
            self.note("locked", "leader")
            try:
                await self.rest(self.options["takes"] * self.chance.random())
            finally:
                self.note("unlocks", "leader", True)

        async def lead() -> None:
            while not self.finishing.is_set():
                self.note("wants", "leader")
                await self.channel.lead("leader", run)
                await self.rest(self.pause())

        leading = self.start(lead())
        await self.finishing.wait()
        leading.cancel()
        with suppress(asyncio.CancelledError):
            await leading

    # --- listeners and their clients -------------------------------------------------------

    async def listen(self, socket: ChannelSocket) -> None:
        conversation = self.begin_conversation()
        async for message in socket:
            answer = self.hear(conversation, message, socket.redelivered)
            if self.chance.random() < 0.2:
                await asyncio.sleep(self.options.get("takes", 0.0))
            socket.write(answer)

    async def play_talker(self) -> None:
        socket = self.channel.connect(timeout=None)
        answered: set[int] = set()
        reading = self.start(self.read_answers(socket, answered))
        number = 0
        while not self.finishing.is_set():
            socket.write(self.question(number))
            number += 1
            with self.watch.call("drain"):
                await socket.drain()
            await self.rest(self.pause())
        # The judge finds what is missing; nobody has to wait for it for ever.
        end = time.monotonic() + ANSWERS
        while len(answered) < number and time.monotonic() < end:
            await asyncio.sleep(0.01)
        self.note("answered", number)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading

    play_listener = play_talker

    async def read_answers(self, socket: ChannelSocket, answered: set[int]) -> None:
        async for answer in socket:
            answered.add(self.note_answer(answer))


async def _live(config: Config) -> None:
    warm_up()
    await warm_up_loop()
    await Actor(config).live()


def live(config: Config) -> None:
    """Live as one member; returns when it has left."""
    if config.runtime == "uvloop":
        import_module("uvloop").run(_live(config))
    else:
        asyncio.run(_live(config))
