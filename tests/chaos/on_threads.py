"""The parts of a chaos run with the blocking API: the same as in ``on_asyncio``, in threads.

The main thread does what it is told, since it may have to fork, and a child has only the thread
that forked.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from open_channel import ChannelClosed, ChannelError, JobLost, WaitTimeout
from open_channel.sync import Channel, ChannelSocket, Subscription, open_channel
from tests.chaos.notes import Config, measure, warm_up
from tests.chaos.part import ANSWERS, CHANNEL, FLUSHES, Part

__all__ = ["live"]

_SOON = 0.2  # seconds between two looks whether it should finish


class Actor(Part):
    def __init__(self, config: Config, channel: Channel | None = None) -> None:
        super().__init__(config)
        self.finishing = threading.Event()
        listener = self.listen if config.role == "listener" else None
        self.channel = channel or open_channel(
            CHANNEL,
            listener,
            directory=config.directory,
            hosts=config.hosts,
            limits=self.limits,
            labels=self.labels,
        )

    # --- the life --------------------------------------------------------------------------

    def live(self) -> None:
        warm_up()
        before = measure()
        with self.watch.call("opening"):
            self.channel.__enter__()
        self.note("opened", self.channel.member)
        playing = self.start(self.play)
        if self.config.lasts:
            self.finishing.wait(self.config.lasts)
        else:
            self.obey()
        self.finishing.set()
        playing.join()
        start = time.monotonic()
        with self.watch.call("closing"):
            self.channel.close()
        self.note("left", time.monotonic() - start)
        left = time.monotonic()
        while not self.settled(before, left):
            time.sleep(0.01)

    def play(self) -> None:
        getattr(self, f"play_{self.config.role}")()
        self.note("finished")

    def start(self, function: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                function(*arguments)
            except BaseException as error:
                self.note("failed", repr(error), traceback.format_exc())

        thread = threading.Thread(target=run, name=f"chaos-{function.__name__}", daemon=True)
        thread.start()
        return thread

    def rest(self) -> None:
        self.finishing.wait(self.pause())

    # --- what it is told -------------------------------------------------------------------

    def obey(self) -> None:
        """Do what the standard input says, until that is to leave."""
        with open(0, "rb", closefd=False) as lines:
            for line in lines:
                do, arguments = json.loads(line)
                if do == "leave":
                    return
                getattr(self, f"do_{do}")(**arguments)
        os._exit(3)  # the run is over

    def do_finish(self) -> None:
        self.finishing.set()

    def do_block(self, seconds: float) -> None:
        """Without an event loop of its own there is nothing to block."""

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
            Actor(replace(self.config, **changes), self.channel).live()
        finally:
            os._exit(0)

    # --- publish and subscribe -------------------------------------------------------------

    def play_publisher(self) -> None:
        while not self.finishing.is_set():
            for family, count in self.options["families"].items():
                for _ in range(count):
                    self.publish(family)
            self.rest()
        with self.watch.call("flush", FLUSHES):
            without = self.channel.flush()
        self.note("flushed", self.numbers, without)

    def publish(self, family: str) -> None:
        topic, data = self.next_message(family)
        draw = self.chance.random()
        if draw < 0.03:
            self.channel.publish_nowait(topic, data)
        elif draw < 0.05 and family == "news":
            with self.watch.call("publish with confirmation", FLUSHES):
                without = self.channel.publish(topic, data, confirm=True)
            self.note("confirmed", family, data[1], without)
        else:
            with self.watch.call("publish", FLUSHES):
                self.channel.publish(topic, data)

    def play_subscriber(self) -> None:
        pattern, takes = self.options["pattern"], self.options.get("takes", 0.0)
        options = {k: v for k, v in self.options.items() if k in {"overflow", "queue"}}
        messages = self.channel.subscribe(pattern, **options)
        with self.watch.call("subscribe"):
            messages.__enter__()
        self.note("subscribed", pattern)
        while not self.finishing.is_set():
            with suppress(WaitTimeout):
                self.note_message(messages.get(timeout=_SOON))
                time.sleep(takes)
        with self.watch.call("unsubscribe"):
            messages.__exit__(None, None, None)
        for message in messages:
            self.note_message(message)
        self.note("unsubscribed", messages.missed)

    # --- jobs and requests -----------------------------------------------------------------

    def play_worker(self) -> None:
        jobs = self.channel.subscribe("jobs.*", group="g", prefetch=self.options["prefetch"])
        with self.watch.call("subscribe to jobs"):
            jobs.__enter__()
        self.note("works")
        last = None
        while not self.finishing.is_set():
            try:
                job = self.next_job(jobs)
            except WaitTimeout:
                last = None
                continue
            last = job if self.work(job) else None
        if last is not None:
            self.acknowledge(last)
        with self.watch.call("unsubscribe"):
            jobs.__exit__(None, None, None)

    def next_job(self, jobs: Subscription) -> Any:
        with self.watch.call("the next job"):
            return jobs.get(timeout=_SOON)

    def work(self, job: Any) -> bool:
        """Whether it is done and may have to be acknowledged yet."""
        publisher, number = self.begin_job(job)
        time.sleep(self.options["takes"])
        if self.chance.random() < 0.01:
            self.note("rejects", publisher, number)
            with suppress(JobLost, ChannelClosed):
                job.reject()
            return False
        self.note("did", publisher, number)
        if self.chance.random() < 0.5:
            self.acknowledge(job)
        return True

    def acknowledge(self, job: Any) -> None:
        try:
            job.ack()
        except (JobLost, ChannelClosed) as error:
            self.note("not acknowledged", *job.data[:2], type(error).__name__)

    def play_responder(self) -> None:
        def answer(request: Any) -> Any:
            reply = self.note_asked(request)
            time.sleep(self.options["takes"])
            return reply

        service = self.channel.serve("price", answer)
        with self.watch.call("serve"):
            service.__enter__()
        self.note("serves")
        self.finishing.wait()
        with self.watch.call("the end of serving"):
            service.__exit__(None, None, None)

    def play_requester(self) -> None:
        number = 0
        while not self.finishing.is_set():
            self.request(number)
            number += 1
            self.rest()

    def request(self, number: int) -> None:
        kind, to = self.draw_request(self.channel)
        start = time.monotonic()
        self.note("request", number, kind, to)
        asked, by = self.ask(number, kind), list[str]()
        timeout = self.options["timeout"]
        try:
            with self.watch.call("request", timeout + 10.0):
                if kind == "all":
                    replies = self.channel.request_all("price", asked, timeout=timeout)
                    outcome, by = self.judge_replies(number, replies)
                else:
                    reply = self.channel.request("price", asked, to=to or None, timeout=timeout)
                    outcome, by = self.judge_reply(number, reply)
        except ChannelError as error:
            outcome = type(error).__name__
        self.note("outcome", number, kind, outcome, by, time.monotonic() - start)

    # --- locks -----------------------------------------------------------------------------

    def play_locker(self) -> None:
        while not self.finishing.is_set():
            name, timeout = self.draw_lock()
            lock = self.channel.lock(name, timeout=timeout)
            self.note("wants", name)
            try:
                with self.watch.call("lock"):
                    lock.acquire()
            except WaitTimeout:
                self.note("no lock", name, timeout)
            else:
                self.note("locked", name)
                time.sleep(self.options["takes"] * self.chance.random())
                self.note("unlocks", name, lock.held)
                lock.release()
            self.rest()

    def play_leader(self) -> None:
        def run() -> None:
            self.note("locked", "leader")
            self.finishing.wait(self.options["takes"] * self.chance.random())
            self.note("unlocks", "leader", True)

        while not self.finishing.is_set():
            self.note("wants", "leader")
            self.channel.lead("leader", run)
            self.rest()

    # --- listeners and their clients -------------------------------------------------------

    def listen(self, socket: ChannelSocket) -> None:
        conversation = self.begin_conversation()
        for message in socket:
            answer = self.hear(conversation, message, socket.redelivered)
            if self.chance.random() < 0.2:
                time.sleep(self.options.get("takes", 0.0))
            socket.write(answer)

    def play_talker(self) -> None:
        socket = self.channel.connect(timeout=None)
        answered: set[int] = set()
        self.start(self.read_answers, socket, answered)
        number = 0
        while not self.finishing.is_set():
            with self.watch.call("write"):
                socket.write(self.question(number))
            number += 1
            self.rest()
        # The judge finds what is missing; nobody has to wait for it for ever.
        end = time.monotonic() + ANSWERS
        while len(answered) < number and time.monotonic() < end:
            time.sleep(0.01)
        self.note("answered", number)

    play_listener = play_talker

    def read_answers(self, socket: ChannelSocket, answered: set[int]) -> None:
        for answer in socket:
            answered.add(self.note_answer(answer))


def live(config: Config) -> None:
    """Live as one member; returns when it has left."""
    Actor(config).live()
