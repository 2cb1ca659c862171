"""Stream: 64-byte messages one way, as fast as they go, and what they cost in memory.

- **bare**: two processes over a plain blocking Unix socket. The sender gathers about 64 KiB of
  messages, and sends a header, a table of lengths, and the joined bodies with one ``sendall``; the
  receiver slices each message out into its own ``bytes`` and counts it. No acknowledgements, no
  event loop: about as fast as pure Python can frame messages.
- **open_channel**: the client calls ``socket.write(body)`` for each message and ``await
  socket.drain()`` after each one, or after each hundred; the listener is ``async for message in
  socket: count += 1``.

In both, the clock runs from the first write until the receiver's answer to the last message is back
at the sender. Each round starts fresh processes. Memory is the growth of the peak resident size
while the stream runs.

The slow listener takes a pause after each thousand messages while the client writes as fast as it
may; each message is a new object and carries its number, which the listener checks. Nothing but
back pressure keeps the memory of either side below the volume written.
"""

from __future__ import annotations

import asyncio
import os
import socket as sockets
import statistics
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice, product, repeat
from typing import Any

from harness import (
    DEADLINE,
    BenchmarkError,
    Crew,
    Goal,
    MemoryWatch,
    Report,
    Settings,
    Table,
    median_ratio,
    say,
    until_dismissed,
)

BODY = bytes(range(64))
BATCH_BYTES = 1 << 16
HEADER = struct.Struct("<II")  # messages in the batch, bytes of their bodies
RATIO_GOAL = 0.35  # 0.8 M messages a second where the bare loop reaches 2.2 M
MEMORY_BOUND = 32.0
"""MiB: this benchmark's reading of "bounded"; what is written to a slow listener is a multiple."""
PAUSE_EACH = 1000
PAUSE = 0.004  # seconds; the slow listener's top speed is 250,000 messages a second


# --- bare sockets ---------------------------------------------------------------------------------


def bare_receiver(path: str, count: int) -> None:
    with sockets.socket(sockets.AF_UNIX) as server:
        server.settimeout(DEADLINE)
        server.bind(path)
        server.listen()
        say(ready=True)
        connection, _ = server.accept()
    with connection:
        connection.settimeout(None)  # blocking calls proper: a timeout adds a poll() to each
        memory = MemoryWatch()
        received = 0
        buffer = memoryview(bytearray(4 * BATCH_BYTES))
        while received < count:
            receive_exactly(connection, buffer[: HEADER.size])
            messages, size = HEADER.unpack_from(buffer)
            frame = buffer[: 4 * messages + size]
            receive_exactly(connection, frame)
            lengths = struct.unpack_from(f"<{messages}I", frame)
            bodies = bytes(frame[4 * messages :])
            start = 0
            for length in lengths:
                end = start + length
                message = bodies[start:end]  # noqa: F841 - each message becomes an object of its own
                start = end
                received += 1
        connection.sendall(b"%d" % received)
        say(memory=memory.growth())


def receive_exactly(connection: sockets.socket, buffer: memoryview) -> None:
    filled = 0
    while filled < len(buffer):
        chunk = connection.recv_into(buffer[filled:])
        if not chunk:
            raise BenchmarkError("the sender ended early")
        filled += chunk


def bare_sender(path: str, count: int) -> None:
    with sockets.socket(sockets.AF_UNIX) as connection:
        connection.connect(path)
        memory = MemoryWatch()
        begun = time.perf_counter()
        batch: list[bytes] = []
        size = 0
        for body in repeat(BODY, count):
            batch.append(body)
            size += len(body)
            if size >= BATCH_BYTES:
                connection.sendall(pack(batch, size))
                batch = []
                size = 0
        if batch:
            connection.sendall(pack(batch, size))
        answer = connection.recv(64)
        say(seconds=time.perf_counter() - begun, memory=memory.growth())
        if int(answer) != count:
            raise BenchmarkError(f"{answer!r} of {count} messages arrived")


def pack(batch: list[bytes], size: int) -> bytes:
    lengths = struct.pack(f"<{len(batch)}I", *map(len, batch))
    return b"".join([HEADER.pack(len(batch), size), lengths, *batch])


# --- ours -----------------------------------------------------------------------------------------


async def fast_listener(socket: Any) -> None:
    socket.write(str(os.getpid()).encode())
    total = int(await socket.read())
    memory = MemoryWatch()
    count = 0
    async for _ in socket:
        count += 1
        if count == total:
            socket.write(b"%d" % count)
            say(memory=memory.growth())


async def slow_listener(socket: Any) -> None:
    socket.write(str(os.getpid()).encode())
    total = int(await socket.read())
    memory = MemoryWatch()
    count = 0
    async for message in socket:
        if int.from_bytes(message[:8], "big") != count:
            raise BenchmarkError(f"message {count} is missing, doubled or out of order")
        count += 1
        if count == total:
            socket.write(b"%d" % count)
            say(memory=memory.growth())
        elif not count % PAUSE_EACH:
            await asyncio.sleep(PAUSE)


def numbered_bodies(count: int) -> Iterator[bytes]:
    tail = BODY[8:]
    return (number.to_bytes(8, "big") + tail for number in range(count))


async def our_receiver(name: str, slow: bool) -> None:
    from open_channel import open_channel

    listener = slow_listener if slow else fast_listener
    await open_channel(name, listener).connect(timeout=10.0).wait_connected()
    say(ready=True)
    await until_dismissed()


async def our_sender(name: str, host: int, count: int, drain_each: int, slow: bool) -> None:
    from open_channel import open_channel

    socket = open_channel(name, slow_listener if slow else fast_listener).connect(timeout=10.0)
    if int(await socket.read()) != host:
        raise BenchmarkError("another process than the receiver hosts the channel")
    memory = MemoryWatch()
    begun = time.perf_counter()
    socket.write(b"%d" % count)
    bodies = numbered_bodies(count) if slow else repeat(BODY, count)
    for _ in range(0, count, drain_each):
        for body in islice(bodies, drain_each):
            socket.write(body)
        await socket.drain()
    answer = await socket.read()
    say(seconds=time.perf_counter() - begun, memory=memory.growth())
    if int(answer) != count:
        raise BenchmarkError(f"{answer!r} of {count} messages arrived")
    await socket.close()
    say(closed=True)


# --- the run --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """One round: messages a second, and the growth of each side's peak memory in MiB."""

    rate: float
    sender: float
    receiver: float


def bare_round(count: int) -> Result:
    with Crew() as crew:
        path = str(crew.directory / "bare")
        receiver = crew.spawn(bare_receiver, path=path, count=count)
        receiver.hear()
        sent = crew.spawn(bare_sender, path=path, count=count).hear()
        return Result(count / sent["seconds"], sent["memory"], receiver.hear()["memory"])


def our_round(count: int, loop: str, drain_each: int, slow: bool = False) -> Result:
    with Crew() as crew:
        name = "stream"
        receiver = crew.spawn(our_receiver, loop=loop, name=name, slow=slow)
        receiver.hear()
        arguments = {"name": name, "host": receiver.pid, "count": count}
        sender = crew.spawn(our_sender, loop=loop, drain_each=drain_each, slow=slow, **arguments)
        sent = sender.hear()
        result = Result(count / sent["seconds"], sent["memory"], receiver.hear()["memory"])
        sender.hear()  # close() has come back: everything was flushed
        return result


def run(settings: Settings) -> Report:
    report = Report("stream")
    speed(settings, report)
    if settings.ours:
        slow_receiver(settings, report)
    return report


def speed(settings: Settings, report: Report) -> None:
    rounds, count = (3, 200_000) if settings.quick else (7, 1_000_000)
    contestants: dict[tuple[str, str], Callable[[], Result]] = {
        ("none", "bare sockets"): partial(bare_round, count)
    }
    if settings.ours:
        for loop, drain_each in product(settings.loops, (1, 100)):
            key = (loop, f"open_channel, drain each {drain_each}")
            contestants[key] = partial(our_round, count, loop, drain_each)
    results: dict[tuple[str, str], list[Result]] = {key: [] for key in contestants}
    for _ in range(rounds):
        for key, one_round in contestants.items():
            results[key].append(one_round())

    header = (
        "loop",
        "contestant",
        "M msg/s p50",
        "min",
        "max",
        "to bare",
        "sender MiB",
        "receiver MiB",
    )
    table = Table(f"64-byte messages one way, {rounds} rounds of {count:,}", header)
    report.tables.append(table)
    rates = {key: [result.rate / 1e6 for result in found] for key, found in results.items()}
    bare, *ours = contestants
    for key, found in results.items():
        ratio = median_ratio(rates[key], rates[bare])
        memory = (max(r.sender for r in found), max(r.receiver for r in found))
        table.rows.append(
            (*key, statistics.median(rates[key]), min(rates[key]), max(rates[key]), ratio, *memory)
        )
        if key in ours:
            goal = Goal(f"rate to bare, {key[0]}, {key[1]}", RATIO_GOAL, ratio, at_most=False)
            report.goals.append(goal)


def slow_receiver(settings: Settings, report: Report) -> None:
    count = 500_000 if settings.quick else 2_000_000
    volume = count * len(BODY) / (1 << 20)
    header = ("loop", "M msg/s", "sender MiB", "receiver MiB")
    table = Table(f"slow listener: {count:,} messages, {volume:.0f} MiB of bodies", header)
    report.tables.append(table)
    for loop in settings.loops:
        result = our_round(count, loop, drain_each=1, slow=True)
        table.rows.append((loop, result.rate / 1e6, result.sender, result.receiver))
        for side, grown in (("sender", result.sender), ("receiver", result.receiver)):
            what = f"peak memory of the {side}, slow listener, {loop}"
            report.goals.append(Goal(what, MEMORY_BOUND, grown, unit="MiB"))
