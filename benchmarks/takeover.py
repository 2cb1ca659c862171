"""Takeover: from SIGKILL of the host to the first message that the next host's listener handles.

Eight worker processes open one channel with the same listener and connect. Each writes a small
message every few milliseconds, whether the host lives or not, as workers under load do; what is
written during the outage waits in the outbox. The listener's first words to each client are its
pid, so everyone knows who hosts.

For each kill: once all eight are connected to one host, the clock is read and the host is killed.
The next host reads the same clock (CLOCK_MONOTONIC is shared by the processes of a machine) when
its listener handles its first message. *All back* is the time until the last survivor has heard
from the new host. Then a fresh worker replaces the dead one.

The **bare flock** row is the floor, measured in turns with the kills: how long after SIGKILL of a
lock's holder one process that blocks in ``flock()`` has the lock, with nothing else done.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sys
import time
from typing import Any

from harness import (
    DEADLINE,
    BenchmarkError,
    Child,
    Crew,
    Goal,
    Report,
    Settings,
    Table,
    hear_any,
    percentile,
    say,
    until_dismissed,
)

WORKERS = 8
PACE = 0.005  # seconds between two messages of one worker
P50_GOAL, P99_GOAL = 10.0, 50.0  # ms
NAME = "takeover"


# --- roles ----------------------------------------------------------------------------------------


async def worker() -> None:
    from open_channel import open_channel

    handled_any = False

    async def listener(socket: Any) -> None:
        nonlocal handled_any
        socket.write(str(os.getpid()).encode())
        async for _ in socket:
            if not handled_any:
                handled_any = True
                say(handled_at=time.monotonic_ns())

    socket = open_channel(NAME, listener).connect(timeout=DEADLINE)

    async def write_steadily() -> None:
        while True:
            socket.write(b"here I am")
            await socket.drain()
            await asyncio.sleep(PACE)

    async def watch_hosts() -> None:
        while host := await socket.read():
            say(host=int(host), heard_at=time.monotonic_ns())
        raise BenchmarkError("the socket ended")

    await first_to_end(write_steadily(), watch_hosts(), until_dismissed())


async def first_to_end(*coroutines: Any) -> None:
    """Run all until one ends; raise what it raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        task.result()


def lock_holder(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    say(waiting=True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    say(held_at=time.monotonic_ns())
    sys.stdin.read()


# --- the two contestants --------------------------------------------------------------------------


def kill(victim: Child) -> int:
    """SIGKILL; returns the time just before it, in nanoseconds. Reaping can wait."""
    begun = time.monotonic_ns()
    os.kill(victim.pid, signal.SIGKILL)
    return begun


class Fleet:
    """The workers, and what they said: whom each hears, when it handled its first message."""

    def __init__(self, crew: Crew, loop: str) -> None:
        self._crew, self._loop = crew, loop
        self._workers: dict[int, Child] = {}
        self._hosts: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self._handled: dict[int, int] = {}
        for _ in range(WORKERS):
            self.add()
        self.settle()

    def add(self) -> None:
        child = self._crew.spawn(worker, loop=self._loop)
        self._workers[child.pid] = child

    def settle(self) -> int:
        """Wait until all hear one and the same host, which has handled a message; its pid."""
        while not self._settled():
            child, news = hear_any(self._workers.values())
            if "host" in news:
                self._hosts[child.pid] = news["host"]
                self._heard[child.pid] = news["heard_at"]
            else:
                self._handled[child.pid] = news["handled_at"]
        if len(self._handled) != 1:
            raise BenchmarkError(f"more than one process hosted: {sorted(self._handled)}")
        return next(iter(self._handled))

    def _settled(self) -> bool:
        hosts = {self._hosts.get(pid) for pid in self._workers}
        return len(hosts) == 1 and hosts <= self._handled.keys()

    def kill_host(self) -> tuple[float, float]:
        """Kill the host; milliseconds to the next one's first message, and until all are back."""
        host = self.settle()
        victim = self._workers.pop(host)
        for memory in (self._hosts, self._heard, self._handled):
            memory.pop(host, None)
        begun = kill(victim)
        successor = self.settle()
        first, last = self._handled[successor] - begun, max(self._heard.values()) - begun
        self._crew.end(victim)
        self.add()
        self.settle()
        return first / 1e6, last / 1e6


class LockHolders:
    """One process that holds a lock, and at each kill another that waits for it."""

    def __init__(self, crew: Crew) -> None:
        self._crew, self._path = crew, str(crew.directory / "lock")
        self._holder = self._add()
        self._holder.hear()

    def _add(self) -> Child:
        child = self._crew.spawn(lock_holder, path=self._path)
        child.hear()
        return child

    def kill_holder(self) -> float:
        victim, self._holder = self._holder, self._add()
        begun = kill(victim)
        held = self._holder.hear()["held_at"] - begun
        self._crew.end(victim)
        return float(held / 1e6)


# --- the run --------------------------------------------------------------------------------------


def run(settings: Settings) -> Report:
    kills = 20 if settings.quick else 200
    report = Report("takeover")
    header = ("loop", "what", "p50 ms", "p90 ms", "p99 ms", "max ms")
    table = Table(f"SIGKILL of the host, {WORKERS} processes, {kills} kills each", header)
    report.tables.append(table)

    def add(loop: str, what: str, samples: list[float]) -> None:
        table.rows.append(
            (loop, what, *(percentile(samples, share) for share in (50, 90, 99, 100)))
        )

    for loop in settings.loops if settings.ours else ():
        floor, firsts, lasts = measure(loop, kills)
        add(loop, "bare flock", floor)
        add(loop, "first message handled", firsts)
        add(loop, "all back", lasts)
        for share, goal in ((50, P50_GOAL), (99, P99_GOAL)):
            what = f"first message, p{share}, {loop}"
            report.goals.append(Goal(what, goal, percentile(firsts, share), unit="ms"))
    if not settings.ours:
        with Crew() as crew:
            holders = LockHolders(crew)
            add("none", "bare flock", [holders.kill_holder() for _ in range(kills)])
    return report


def measure(loop: str, kills: int) -> tuple[list[float], list[float], list[float]]:
    floor, firsts, lasts = [], [], []
    with Crew() as crew:
        fleet, holders = Fleet(crew, loop), LockHolders(crew)
        for _ in range(kills):
            first, last = fleet.kill_host()
            firsts.append(first)
            lasts.append(last)
            floor.append(holders.kill_holder())
    return floor, firsts, lasts
