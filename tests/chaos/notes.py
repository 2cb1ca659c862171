"""What a process of a chaos run writes down of itself, so that it survives whatever befalls it.

Each note is one line of JSON, which the kernel has before the next thing happens; its last element
is the time, of a clock that all processes of the machine share. A thread notes when this process
did not run for a while, and which calls have lasted too long.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from open_channel.io.background import background_loop

__all__ = [
    "PATIENCE",
    "Config",
    "Notes",
    "Resources",
    "Watch",
    "measure",
    "warm_up",
    "warm_up_loop",
]

LATE = 0.25  # seconds that a tick may come late without being noted
PATIENCE = 40.0  # seconds after which a call hangs; what may delay one is over long before
_TICK = 0.1


@dataclass
class Config:
    """What a process is to be and to do."""

    name: str
    role: str
    runtime: str
    """asyncio, uvloop or blocking."""
    ledger: str
    directory: str
    seed: int = 0
    hosts: bool = True
    limits: dict[str, float] = field(default_factory=dict)
    lasts: float = 0.0
    """Seconds after which it leaves by itself; 0: when it is told so."""
    options: dict[str, Any] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps(asdict(self))


class Notes:
    """The ledger of one process."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def __call__(self, kind: str, *entry: Any) -> None:
        os.write(self._file, (json.dumps([kind, *entry, time.monotonic()]) + "\n").encode())


class Watch:
    """Notes the times in which this process did not run, and calls that do not end."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._calls: dict[int, tuple[str, float]] = {}
        self._keys = itertools.count()
        self._late = 0.0
        threading.Thread(target=self._run, name="chaos-watch", daemon=True).start()

    @contextmanager
    def call(self, what: str, patience: float = PATIENCE) -> Iterator[None]:
        """The block has to end within so many seconds in which this process runs."""
        key = next(self._keys)
        self._calls[key] = what, time.monotonic() + patience + self._late
        try:
            yield
        finally:
            self._calls.pop(key, None)

    def _run(self) -> None:
        before = time.monotonic()
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            if now - before > _TICK + LATE:
                self._notes("late", before, now)
                self._late += now - before
            before = now
            for key, (what, deadline) in list(self._calls.items()):
                if now > deadline + self._late and key in self._calls:
                    self._notes("hung", what)
                    self._calls.pop(key, None)  # it is noted once

    async def watch_loop(self) -> None:
        """Note when the running event loop is late."""
        before = time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            if now - before > _TICK + LATE:
                self._notes("late", before, now)
            before = now


@dataclass
class Resources:
    """What a process has open."""

    files: Counter[str]
    threads: Counter[str]
    tasks: Counter[str]

    def beyond(self, before: Resources) -> list[str]:
        """What was not there before."""
        more = [f"{count} {kind}" for kind, count in (self.files - before.files).items()]
        more += [f"thread {name}" for name in (self.threads - before.threads).elements()]
        return more + [f"task {name}" for name in (self.tasks - before.tasks).elements()]


def warm_up() -> None:
    """Start what stays for the life of a process: the background thread and its loop."""
    asyncio.run_coroutine_threadsafe(warm_up_loop(), background_loop()).result(PATIENCE)


async def warm_up_loop() -> None:
    """Let the running loop have a first connection: libuv opens a spare file with it, for good."""
    one, other = socket.socketpair()
    with other:
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=one
        )
        transport.close()
        while one.fileno() >= 0:
            await asyncio.sleep(0)


def measure() -> Resources:
    """What this process has open now."""
    files: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the descriptor of the listing itself
            continue
        files[target.split(":[")[0]] += 1
    tasks = asyncio.all_tasks(background_loop())
    with suppress(RuntimeError):  # there is no other loop
        tasks |= asyncio.all_tasks()
    return Resources(
        files,
        Counter(thread.name for thread in threading.enumerate()),
        Counter(getattr(task.get_coro(), "__qualname__", repr(task)) for task in tasks),
    )
