"""At rest a channel costs a heartbeat and nothing else; when it is closed nothing is left of it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import open_channel.sync as blocking
from open_channel import ChannelSocket, ConnectTimeout, open_channel
from open_channel.io.host import Host
from open_channel.io.lockfile import read_file
from tests.integration.members import agree, files, start
from tests.processes import Processes, wait_for


async def echo(socket: ChannelSocket) -> None:
    async for message in socket:
        socket.write(message)


def wakeups(pid: int) -> int:
    """How often the threads of a process have gone to sleep."""
    switches = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                switches += int(line.split()[1])
    return switches


def test_at_rest(channel_dir: Path, processes: Processes) -> None:
    host, client, other = (start(processes) for _ in range(3))
    pid = agree([host, client, other])
    lock = files(channel_dir).lock("l")

    def next_pulse() -> None:
        before = read_file(lock)[2]
        wait_for(lambda: read_file(lock)[2] != before, "the host's pulse")

    next_pulse()
    before = {member.pid: wakeups(member.pid) for member in (host, client, other)}
    for _ in range(3):  # seconds
        next_pulse()
    counts = {member: wakeups(member) - count for member, count in before.items()}
    hosts = counts.pop(pid)
    # A member wakes to read the host's sign of life, and for nothing else.
    assert all(count <= 5 for count in counts.values()), counts
    # The host wakes to give it, twice (heartbeat and pulse), and is its own member too.
    assert hosts <= 20, hosts


def left_over() -> tuple[int, int]:
    gc.collect()
    names = [thread.name for thread in threading.enumerate()]
    return len(os.listdir("/proc/self/fd")), sum(name.startswith("open-channel") for name in names)


def more_than(before: tuple[int, int]) -> bool:
    return any(now > then for now, then in zip(left_over(), before, strict=True))


@pytest.mark.parametrize("role", ["host", "client"])
async def test_nothing_is_left_of_closed_channels(channel_dir: Path, role: str) -> None:
    async def cycle() -> None:
        channel = open_channel("chat", echo)
        async with channel.connect() as socket:
            socket.write(b"hello")
            assert await socket.read() == b"hello"

    host = open_channel("chat", echo)
    if role == "client":
        await host.connect().wait_connected()
    await cycle()
    tasks = asyncio.all_tasks()
    before = left_over()
    for _ in range(200):
        await cycle()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while more_than(before) or asyncio.all_tasks() - tasks:
        assert loop.time() < deadline, (before, left_over(), asyncio.all_tasks() - tasks)
        await asyncio.sleep(0.01)
    await host.close()
    assert not list(channel_dir.glob("*.m.*"))
    assert not [path for path in channel_dir.iterdir() if path.is_socket()]


def test_nothing_is_left_of_closed_blocking_channels(channel_dir: Path) -> None:
    def listen(socket: blocking.ChannelSocket) -> None:
        for message in socket:
            socket.write(message)

    def cycle() -> None:
        with blocking.open_channel("chat", listen).connect() as socket:
            socket.write(b"hello")
            assert socket.read(timeout=10) == b"hello"

    def new_threads() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread not in threads}

    threads = set(threading.enumerate())
    cycle()  # starts the background thread, which stays, and what its loop opens for itself
    wait_for(lambda: new_threads() <= {"open-channel"}, "only the background thread is left")
    threads, descriptors = set(threading.enumerate()), left_over()[0]
    for _ in range(200):
        cycle()
    wait_for(lambda: not new_threads(), "no thread is left")
    wait_for(lambda: left_over()[0] <= descriptors, f"{descriptors} descriptors as before")
    assert not list(channel_dir.glob("*.m.*"))


async def test_one_who_cannot_host_does_not_spin(
    channel_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries = []

    def bind(self: Any) -> None:
        tries.append(self)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Host, "bind", bind)
    channel = open_channel("chat", echo)
    with pytest.raises(ConnectTimeout) as caught:
        await channel.connect(1.0).wait_connected()
    assert 1 < len(tries) < 40
    reason = "[Errno 28] No space left on device"
    assert caught.value.last == f"this process was elected and could not host: {reason}"
    assert [record.getMessage() for record in caplog.records] == [f"chat: cannot host: {reason}"]
    monkeypatch.undo()
    await channel.close()
