"""Large messages: they lie in memory that processes share, and nothing depends on that."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from open_channel import Channel, Job, Limits, Message, open_channel
from open_channel.io.arena import Arena, Foreign, Slot
from open_channel.io.wire import Wire
from open_channel.protocol.batches import LARGE
from open_channel.protocol.shared import Place
from open_channel.sync import open_channel as open_channel_here
from tests.bus import large_process
from tests.bus.conftest import Joiner
from tests.processes import DEADLINE, Process, Processes, processes, wait_for

__all__ = ["processes"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is shared elsewhere")

MIB = 1024 * 1024
FIRST = bytes(range(256)) * 1024
"""With the first, those who are to share find each other."""

Written = Callable[[], int]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """How many bytes the connections of this process were given since this was asked before."""
    sizes: list[int] = []
    write = Wire.write

    def counting(wire: Wire, parts: Any) -> None:
        sizes.append(sum(map(len, parts)))
        write(wire, parts)

    def since() -> int:
        size = sum(sizes)
        sizes.clear()
        return size

    monkeypatch.setattr(Wire, "write", counting)
    return since


@pytest.fixture
def broken(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged of connections that ended under an open channel, and of all that is worse."""
    caplog.set_level(logging.INFO, "open_channel")

    def found() -> list[str]:
        records = [(record.levelno, record.getMessage()) for record in caplog.records]
        assert records  # of connections that were made
        return [text for level, text in records if level > logging.INFO or "lost the host" in text]

    return found


def body(number: int, size: int = MIB) -> bytes:
    return large_process.body(number, size)


async def warm(publisher: Channel, *subscribers: Any) -> None:
    """Until the connections between these share memory."""
    for _ in range(2):
        await publisher.publish("big", FIRST, confirm=True)
        for subscription in subscribers:
            assert (await subscription.get()).body == FIRST


async def test_a_large_message_takes_little_room_in_the_sockets(
    join: Joiner, written: Written
) -> None:
    host = await join()
    publisher = await join(hosts=False)
    async with host.subscribe("big") as one, publisher.subscribe("big") as other:
        await warm(publisher, one, other)
        written()
        for number in range(30):
            await publisher.publish("big", body(number), confirm=True)
            assert (await one.get()).body == (await other.get()).body == body(number)
        assert written() < MIB


async def test_only_its_publisher_copies_a_message_for_others(
    join: Joiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[Arena] = []
    put = Arena.put

    def counting(arena: Arena, body: bytes | memoryview) -> Slot | None:
        copied.append(arena)
        return put(arena, body)

    await join()
    publisher, reader = await join(hosts=False), await join(hosts=False)
    async with publisher.subscribe("big") as one, reader.subscribe("big") as other:
        await warm(publisher, one, other)
        async with reader.subscribe("big", group="workers") as jobs:
            monkeypatch.setattr(Arena, "put", counting)
            for number in range(100):  # three times what there is room for
                await publisher.publish("big", body(number))
                for subscription in one, other, jobs:
                    assert (await subscription.get()).body == body(number)
        assert len(copied) == 100
        assert len(set(copied)) == 1


async def test_what_was_received_does_not_change_later(join: Joiner) -> None:
    host = await join()
    publisher = await join(hosts=False)
    async with host.subscribe("big", queue=1 << 30) as subscription:
        await warm(publisher, subscription)
        for number in range(40):
            await publisher.publish("big", body(number))
        await publisher.flush()
        received = [await subscription.get() for _ in range(40)]
    assert [message.body for message in received] == [body(number) for number in range(40)]
    assert not any(message.missed for message in received)


async def test_jobs_requests_and_replies(join: Joiner, written: Written) -> None:
    def twice(request: Message) -> bytes:
        return request.body * 2

    host = await join()
    other = await join(hosts=False)
    async with (
        other.serve("twice", twice),
        other.subscribe("jobs", group="workers") as jobs,
    ):
        for _ in range(3):
            written()
            assert await host.request("twice", FIRST) == FIRST * 2
            await host.publish("jobs", FIRST)
            job = await jobs.get()
            assert isinstance(job, Job)
            assert job.body == FIRST
            job.ack()
            await host.flush()
        assert written() < len(FIRST)


@pytest.mark.parametrize("who", ["host", "publisher", "consumer", "nobody"])
async def test_large_jobs_and_requests_however_they_came(join: Joiner, who: str) -> None:
    """By one way to the host, and by the other from it, in all four combinations."""
    few = {who: {"limits": Limits(shared=0)}}
    await join(**few.get("host", {}))
    publisher = await join(hosts=False, **few.get("publisher", {}))
    consumer = await join(hosts=False, **few.get("consumer", {}))
    async with (
        asyncio.timeout(20),
        consumer.serve("echo", lambda request: request.body),
        consumer.subscribe("jobs", group="workers", prefetch=3) as jobs,
    ):
        for number in range(12):
            await publisher.publish("jobs", body(number, 200_000))
        rejected: set[bytes] = set()
        done: list[bytes] = []
        while len(done) < 12:
            job = await jobs.get()
            assert isinstance(job, Job)
            if job.body not in rejected:
                rejected.add(job.body)
                job.reject()
            else:
                done.append(job.body)
                job.ack()
        assert sorted(done) == sorted(body(number, 200_000) for number in range(12))
        await publisher.flush()
        sent = [body(number) for number in range(12)]
        assert await asyncio.gather(*(publisher.request("echo", b) for b in sent)) == sent


async def test_a_listener_and_its_client(channel_dir: Path, written: Written) -> None:
    async def listener(socket: Any) -> None:
        async for message in socket:
            socket.write(message + b"!")

    channel = open_channel("chat", listener)
    socket = channel.connect()
    for _ in range(3):
        written()
        socket.write(FIRST)
        assert await socket.read() == FIRST + b"!"
    assert written() < len(FIRST)
    await socket.close()


# What precedes the body in a message, and is not shared, may make it larger than what is shared.
AROUND = range(LARGE - 3, LARGE + 2)


async def test_messages_about_as_large_as_what_is_shared(
    channel_dir: Path, broken: Callable[[], list[str]]
) -> None:
    async def listener(socket: Any) -> None:
        async for message in socket:
            socket.write(message)

    async with open_channel("chat", listener).connect() as socket:
        for size in (len(FIRST), *AROUND):
            for number in range(2):
                socket.write(body(number, size))
                assert await socket.read() == body(number, size)
    assert broken() == []


def test_messages_about_as_large_as_what_is_shared_between_threads(
    channel_dir: Path, broken: Callable[[], list[str]]
) -> None:
    def listener(socket: Any) -> None:
        for message in socket:
            socket.write(message)

    with open_channel_here("chat", listener).connect() as socket:
        for size in (len(FIRST), *AROUND):
            for number in range(2):
                socket.write(body(number, size))
                assert socket.read(DEADLINE) == body(number, size)
    assert broken() == []


async def test_publications_about_as_large_as_what_is_shared(
    join: Joiner, broken: Callable[[], list[str]]
) -> None:
    host = await join()
    publisher = await join(hosts=False)
    async with host.subscribe("big") as one, publisher.subscribe("big") as other:
        await warm(publisher, one, other)
        for size in range(LARGE - 62, LARGE + 9):
            await publisher.publish("big", body(size, size))
            assert (await one.get()).body == (await other.get()).body == body(size, size)
    assert broken() == []


@pytest.mark.parametrize("who", ["publisher", "host"])
async def test_who_shares_none_gets_and_sends_as_well(
    join: Joiner, written: Written, who: str
) -> None:
    none = Limits(shared=0)
    host = await join(**({"limits": none} if who == "host" else {}))
    publisher = await join(hosts=False, **({"limits": none} if who == "publisher" else {}))
    async with host.subscribe("big") as subscription:
        await warm(publisher, subscription)
        written()
        for number in range(10):
            await publisher.publish("big", body(number), confirm=True)
            assert (await subscription.get()).body == body(number)
        # What it does not share goes through a socket; a host copies only what came by one.
        there = 1 if who == "publisher" else 0
        assert there * 10 * MIB < written() < there * 10 * MIB + MIB


async def test_one_that_cannot_read_it_gets_it_through_its_socket(
    join: Joiner, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /proc is not mounted, or shows another container's processes."""
    monkeypatch.setattr(Foreign, "open", lambda offer: None)
    host = await join()
    async with host.subscribe("big") as subscription:
        await warm(host, subscription)
        written()
        await host.publish("big", body(1), confirm=True)
        assert (await subscription.get()).body == body(1)
        assert written() > 2 * MIB


async def test_more_than_there_is_room_for_goes_through_the_sockets(
    join: Joiner, written: Written
) -> None:
    limits = Limits(shared=3 * MIB)
    host = await join(limits=limits)
    publisher = await join(hosts=False, limits=limits)
    async with host.subscribe("big", queue=1 << 30) as subscription:
        await warm(publisher, subscription)
        for size in (5 * MIB, MIB, 7 * MIB, 2 * MIB, 64 * MIB, MIB):
            await publisher.publish("big", body(size, size))
        for size in (5 * MIB, MIB, 7 * MIB, 2 * MIB, 64 * MIB, MIB):
            assert (await subscription.get()).body == body(size, size)
        written()
        await publisher.publish("big", body(1), confirm=True)  # all the room is there again
        assert (await subscription.get()).body == body(1)
        assert written() < MIB


async def test_what_is_not_there_any_more_ends_the_connection_and_is_sent_again(
    join: Joiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = await join()
    publisher = await join(hosts=False)
    async with host.subscribe("big") as subscription:
        await warm(publisher, subscription)
        holds, gone = Foreign.holds, [True]

        def at_first_not(foreign: Foreign, place: Place) -> bool:
            return not gone.pop() if gone else holds(foreign, place)

        monkeypatch.setattr(Foreign, "holds", at_first_not)
        for number in range(5):
            await publisher.publish("big", body(number))
        for number in range(5):
            message = await subscription.get()
            assert (message.body, message.missed) == (body(number), 0)
        assert not gone
    assert publisher.stats().epoch == host.stats().epoch == 1


async def test_memory_that_was_shared_is_given_back(channel_dir: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(3):
        async with open_channel("shop") as host, open_channel("shop") as other:
            async with other.subscribe("big") as subscription:
                await warm(host, subscription)
            assert descriptors() > before
    deadline = time.monotonic() + 10
    while descriptors() > before + 3:  # the background thread's own
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# --- real processes -------------------------------------------------------------------------------

SCRIPT = Path(large_process.__file__)


def started(processes: Processes, role: str, count: int) -> Process:
    one = processes(SCRIPT, role, str(count))
    one.expect("ready")
    return one


def test_hosts_die_under_a_stream_of_large_messages(
    processes: Processes, channel_dir: Path
) -> None:
    """Each message arrives once, in order and whole, at those who live."""

    def start(role: str) -> Process:
        return started(processes, role, 600)

    hosts = {one.pid: one for one in [start("host") for _ in range(4)]}
    subscribers = [start("subscribe") for _ in range(large_process.SUBSCRIBERS)]
    publisher = start("publish")
    with open_channel_here("shop", hosts=False) as channel:

        def hosting() -> int | None:
            pids = (member.pid for member in channel.members if "broker" in member.hosting)
            return next((pid for pid in pids if pid in hosts), None)

        for events in 3, 6, 9:
            publisher.expect("confirmed", after=events)
            pid = wait_for(hosting, "a host")
            hosts.pop(pid).kill()
    publisher.expect("done")
    for one in (*subscribers, publisher, *hosts.values()):
        assert one.errors() == ""


def test_what_a_dead_publisher_wrote_is_there_for_one_who_was_stopped(
    processes: Processes, channel_dir: Path
) -> None:
    """Three times what fits in its memory: some of it lies there, and nobody writes over that."""
    count = 400
    host, fast, slow = (
        started(processes, role, count) for role in ("host", "subscribe", "subscribe")
    )
    publisher = started(processes, "publish", count)
    publisher.expect("confirmed")
    slow.signal(signal.SIGSTOP)
    publisher.expect("confirmed", after=count // 50)
    fast.expect("all")
    publisher.kill()
    slow.signal(signal.SIGCONT)
    slow.expect("all")
    for one in host, fast, slow:
        assert one.errors() == ""


def test_who_gets_large_messages_uses_its_memory_again(
    processes: Processes, channel_dir: Path
) -> None:
    """Else there are 14 to 18 page faults for each of 256 KiB."""
    count = 600
    started(processes, "host", count)
    subscriber = started(processes, "subscribe", count)
    before = faults(subscriber.pid)
    started(processes, "publish", count)
    subscriber.expect("all")
    assert faults(subscriber.pid) - before < 5 * count


def faults(pid: int) -> int:
    """The minor page faults of a process: see proc_pid_stat(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


async def test_who_hosts_no_more_holds_no_memory_of_others(
    processes: Processes, channel_dir: Path
) -> None:
    """Though messages lie there for one who did not take them, and it keeps its closed channel."""
    before = shared_memories()
    async with open_channel("shop") as channel:
        await channel.publish("small", b"", confirm=True)
        slow = await asyncio.to_thread(started, processes, "subscribe", 100)
        slow.signal(signal.SIGSTOP)
        publisher = await asyncio.to_thread(started, processes, "publish", 100)
        await asyncio.to_thread(publisher.expect, "confirmed", after=2)
        assert shared_memories() > before
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while shared_memories() > before:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


def shared_memories() -> int:
    """How many this process has open, mapped ones too."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            count += "memfd:" in os.readlink(f"/proc/self/fd/{name}")
    return count
