"""A connection counts only after the welcome: listening sockets that nobody accepts from."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from open_channel import ConnectTimeout, Limits, NameCollision, open_channel
from open_channel.protocol.records import HostRecord, encode_record
from tests.integration.members import QUICK, agree, all_handled, files, record, start
from tests.processes import Processes, wait_for


@contextmanager
def silent_host(directory: Path, name: str = "chat", said: str = "") -> Iterator[socket.socket]:
    """A lock that is held, and a socket in its record that is listened on, and that is all."""
    found = files(directory, name)
    fields = {
        "name": said or name,
        "service": "listener",
        "hosting": 7,
        "epoch": 3,
        "socket": found.socket("l", 7),
        "pid": os.getpid(),
        "member": "0" * 32,
        "since": time.time(),
        "heartbeat": 0.2,
        "lineage": 7,
    }
    known: dict[str, Any] = {field: fields[field] for field in HostRecord._fields}
    with (
        open(found.lock("l"), "wb") as lock,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        listening.bind(found.path(found.socket("l", 7)))
        listening.listen(64)
        lock.write(encode_record(HostRecord(**known)))
        lock.flush()
        yield listening


async def test_one_who_cannot_take_over_is_told_who_did_not_answer(channel_dir: Path) -> None:
    with silent_host(channel_dir):
        channel = open_channel("chat")
        with pytest.raises(ConnectTimeout) as caught:
            await channel.connect(0.5).wait_connected()
        assert caught.value.name == "chat"
        assert caught.value.timeout == 0.5
        assert f"pid {os.getpid()}" in caught.value.last
        assert not channel.connected


async def test_a_timeout_after_the_host_was_given_up_says_so(channel_dir: Path) -> None:
    with silent_host(channel_dir):
        channel = open_channel("chat", limits=Limits(heartbeat=0.1, timeout=0.3))
        with pytest.raises(ConnectTimeout) as caught:
            await channel.connect(1.5).wait_connected()
        assert f"pid {os.getpid()}" in caught.value.last


async def test_a_timeout_without_any_host_says_so(channel_dir: Path) -> None:
    with pytest.raises(ConnectTimeout) as caught:
        await open_channel("chat").connect(0.1).wait_connected()
    assert "nobody hosts it" in caught.value.last


async def test_one_who_can_deposes_a_silent_host(channel_dir: Path) -> None:
    with silent_host(channel_dir) as listening:
        path = listening.getsockname()
        channel = open_channel(
            "chat", lambda socket: None, limits=Limits(heartbeat=0.2, timeout=0.6)
        )
        await channel.connect(10).wait_connected()
        assert channel.hosting
        assert record(channel_dir).epoch == 4
        assert os.path.exists(path)  # not ours to remove while somebody listens
        await channel.close(timeout=0)


@pytest.mark.parametrize("listens", [False, True])
async def test_two_names_with_one_short_name(channel_dir: Path, listens: bool) -> None:
    with silent_host(channel_dir, said="tchat"):
        channel = open_channel("chat", (lambda socket: None) if listens else None)
        with pytest.raises(NameCollision) as caught:
            await channel.connect().wait_connected()
        assert (caught.value.name, caught.value.other) == ("chat", "tchat")
        assert caught.value.path == files(channel_dir).lock("l")
        assert not channel.hosting


async def test_two_names_with_one_short_name_when_nobody_hosts(channel_dir: Path) -> None:
    with silent_host(channel_dir, said="tchat"):
        pass
    with pytest.raises(NameCollision):
        await open_channel("chat", lambda socket: None).connect().wait_connected()
    with open(files(channel_dir).lock("l"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it did not keep it
        assert b"tchat" in lock.read()


def test_a_full_backlog(channel_dir: Path, processes: Processes) -> None:
    """On Linux connect() gives EAGAIN then, which asyncio takes for a connection being made."""
    host = start(processes, backlog=2)
    host.connected(host.pid)
    host.stop()
    clients = [start(processes, listens=False) for _ in range(12)]
    for client in clients:
        client.do("write", f"from {client.pid}")
        assert client.state()["state"] == "connecting"
    assert is_full(channel_dir)
    host.cont()
    for client in clients:
        client.connected(host.pid)
        client.expect_replies([f"from {client.pid}"])
    assert len(all_handled([host])) == 12
    for client in clients:
        assert len([event for event in client.events if "connected" in event]) == 1
        assert client.errors() == ""


def is_full(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(files(directory).path(record(directory).socket))
        except BlockingIOError:
            return True
        return False


def test_a_stopped_host_with_a_backlog_welcomes_nobody(
    channel_dir: Path, processes: Processes
) -> None:
    host = start(processes, limits=QUICK)
    host.connected(host.pid)
    host.stop()
    patient = start(processes, limits=QUICK, listens=False)
    patient.do("write", "hello")
    wait_for(lambda: patient.state()["state"] == "connecting", "it tries")
    other = start(processes, limits=QUICK)
    other.connected(other.pid)
    patient.connected(other.pid)
    patient.expect_replies(["hello"])
    host.cont()
    assert agree([other, host]) == other.pid
    assert len(all_handled([host, other], "hello")) == 1
