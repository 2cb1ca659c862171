"""Echo: 64 bytes to a listener process and back, against a bare asyncio echo over a Unix socket.

Three contestants, each a server process and a client process with the same loop implementation:

- **bare, callback**: ``asyncio.BufferedProtocol`` on both sides, a 4-byte length before each body;
  the client writes the next message straight from ``buffer_updated``. No task or future runs
  between two round trips: the strictest baseline there is, and the one that the goal's ratio is
  taken against.
- **bare, future**: the same wire and server; the client is a coroutine that awaits one future a
  round trip, as any code must that offers ``await socket.read()``.
- **open_channel**: ``socket.write(body)`` and ``await socket.read()``, against ``async for message
  in socket``.

Where the scheduler puts the two processes matters more than what they do: on one core they hand
over in a few microseconds, on two each hop wakes a sleeping core. Left to itself the kernel
changes its mind in the middle of a run, and then a ratio compares placements. So each contestant
is measured pinned to one core, pinned to two, and left *free*; the goals are of the pinned ones.

All processes live through the whole run; rounds alternate between the contestants. The ratio is
the median of the rounds' ratios of medians.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from harness import (
    BenchmarkError,
    Child,
    Crew,
    Goal,
    Report,
    Settings,
    Table,
    commands,
    median_ratio,
    percentile,
    say,
    until_dismissed,
)

BODY = bytes(range(64))
PREFIX_SIZE = 4
WARM_UP = 200
GOAL = 1.3

Measure = Callable[[int], Awaitable[list[int]]]
"""Makes so many round trips and returns the nanoseconds of each."""
Rounds = dict[tuple[str, str], list[list[int]]]
"""By placement and contestant: the samples of each round."""


# --- bare asyncio ---------------------------------------------------------------------------------


class FramedProtocol(asyncio.BufferedProtocol):
    """Length-prefixed messages over a reused buffer, and nothing else."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(1 << 16))
        self._filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        buffer, filled, start = self._buffer, self._filled + nbytes, 0
        while filled - start >= PREFIX_SIZE:
            body = start + PREFIX_SIZE
            end = body + int.from_bytes(buffer[start:body], "big")
            if end > filled:
                break
            self.message_received(bytes(buffer[body:end]))
            start = end
        if start:
            buffer[: filled - start] = buffer[start:filled]
        self._filled = filled - start

    def send(self, body: bytes) -> None:
        self.transport.write(len(body).to_bytes(PREFIX_SIZE, "big") + body)

    def message_received(self, body: bytes) -> None:
        raise NotImplementedError


class EchoProtocol(FramedProtocol):
    def message_received(self, body: bytes) -> None:
        self.send(body)


class CallbackClient(FramedProtocol):
    """Writes the next message from within the callback that brought the answer to the last."""

    async def measure(self, count: int) -> list[int]:
        self._left = count
        self._samples: list[int] = []
        self._done = asyncio.get_running_loop().create_future()
        self._next()
        await self._done
        return self._samples

    def _next(self) -> None:
        self._begun = time.perf_counter_ns()
        self.send(BODY)

    def message_received(self, body: bytes) -> None:
        self._samples.append(time.perf_counter_ns() - self._begun)
        self._left -= 1
        if self._left:
            self._next()
        else:
            self._done.set_result(None)


class FutureClient(FramedProtocol):
    """One future a round trip, awaited by a coroutine."""

    async def measure(self, count: int) -> list[int]:
        loop, samples = asyncio.get_running_loop(), []
        for _ in range(count):
            begun = time.perf_counter_ns()
            self._answer = loop.create_future()
            self.send(BODY)
            if await self._answer != BODY:
                raise BenchmarkError("a wrong answer")
            samples.append(time.perf_counter_ns() - begun)
        return samples

    def message_received(self, body: bytes) -> None:
        self._answer.set_result(body)


BARE_CLIENTS: dict[str, Callable[[], CallbackClient | FutureClient]] = {
    "callback": CallbackClient,
    "future": FutureClient,
}


async def bare_server(path: str) -> None:
    await asyncio.get_running_loop().create_unix_server(EchoProtocol, path)
    say(ready=True)
    await until_dismissed()


async def bare_client(path: str, kind: str) -> None:
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_unix_connection(BARE_CLIENTS[kind], path)
    await obey(protocol.measure)


# --- ours -----------------------------------------------------------------------------------------


async def echo_listener(socket: Any) -> None:
    socket.write(str(os.getpid()).encode())  # who hosts: the client checks that it is not itself
    async for message in socket:
        socket.write(message)


async def our_server(name: str) -> None:
    from open_channel import open_channel

    await open_channel(name, echo_listener).connect(timeout=10.0).wait_connected()
    say(ready=True)
    await until_dismissed()


async def our_client(name: str, host: int) -> None:
    from open_channel import open_channel

    socket = open_channel(name, echo_listener).connect(timeout=10.0)
    if int(await socket.read()) != host:
        raise BenchmarkError("another process than the server hosts the channel")

    async def measure(count: int) -> list[int]:
        samples = []
        for _ in range(count):
            begun = time.perf_counter_ns()
            socket.write(BODY)
            if await socket.read() != BODY:
                raise BenchmarkError("a wrong answer")
            samples.append(time.perf_counter_ns() - begun)
        return samples

    await obey(measure)


# --- the run --------------------------------------------------------------------------------------


async def obey(measure: Measure) -> None:
    """Make a round of round trips each time the parent asks for one."""
    say(ready=True)
    async for command in commands():
        await measure(WARM_UP)
        say(samples=await measure(command["count"]))


@dataclass(frozen=True, slots=True)
class Pair:
    """A server process and its connected client."""

    server: Child
    client: Child

    def round_trips(self, count: int, cores: tuple[set[int], set[int]] | None) -> list[int]:
        if cores is not None:
            for child, allowed in zip((self.server, self.client), cores, strict=True):
                os.sched_setaffinity(child.pid, allowed)
        self.client.tell(count=count)
        samples: list[int] = self.client.hear()["samples"]
        return samples


def placements() -> dict[str, tuple[set[int], set[int]] | None]:
    """The cores that server and client may use, where the system lets them be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return {"free": None}
    every = os.sched_getaffinity(0)
    first, *others = sorted(every)
    found: dict[str, tuple[set[int], set[int]] | None] = {"one core": ({first}, {first})}
    if others:
        found["two cores"] = ({first}, {others[0]})
    return found | {"free": (every, every)}


def start_pairs(crew: Crew, loop: str, ours: bool) -> dict[str, Pair]:
    """A connected pair for each contestant."""
    pairs = {}
    for kind in BARE_CLIENTS:
        path = str(crew.directory / f"{loop}-{kind}")
        server = crew.spawn(bare_server, loop=loop, path=path)
        server.hear()
        client = crew.spawn(bare_client, loop=loop, path=path, kind=kind)
        pairs[f"bare, {kind}"] = Pair(server, client)
    if ours:
        name = f"echo-{loop}"
        server = crew.spawn(our_server, loop=loop, name=name)
        server.hear()
        client = crew.spawn(our_client, loop=loop, name=name, host=server.pid)
        pairs["open_channel"] = Pair(server, client)
    for pair in pairs.values():
        pair.client.hear()
    return pairs


def run(settings: Settings) -> Report:
    rounds, count = (3, 1000) if settings.quick else (11, 3000)
    report = Report("echo")
    header = ("loop", "placement", "contestant", "p50 us", "p99 us", "p99.9 us", "max us", "ratio")
    table = Table(f"64-byte round trip, {rounds} rounds of {count}; ratio of the p50", header)
    report.tables.append(table)
    places = placements()
    for loop in settings.loops:
        with Crew() as crew:
            pairs = start_pairs(crew, loop, settings.ours)
            found: Rounds = {key: [] for key in product(places, pairs)}
            for _, (place, contestant) in product(range(rounds), found):
                samples = pairs[contestant].round_trips(count, places[place])
                found[place, contestant].append(samples)
        for place, contestant in found:
            row, ratio = summary(found[place, contestant], found[place, "bare, callback"])
            table.rows.append((loop, place, contestant, *row))
            if contestant == "open_channel" and (place != "free" or len(places) == 1):
                what = f"p50 to the bare callback echo, {loop}, {place}"
                report.goals.append(Goal(what, GOAL, ratio))
    return report


def summary(rounds: list[list[int]], base: list[list[int]]) -> tuple[list[float], float]:
    """Microseconds at p50, p99, p99.9 and at most, and the ratio to the base; the ratio again."""
    every = [sample / 1000 for samples in rounds for sample in samples]
    ratio = median_ratio(
        [statistics.median(r) for r in rounds], [statistics.median(r) for r in base]
    )
    return [*(percentile(every, share) for share in (50, 99, 99.9, 100)), ratio], ratio
