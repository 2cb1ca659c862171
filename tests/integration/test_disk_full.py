"""A full disk: only the first host of a channel needs room there; to take it over needs none."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_channel import ChannelSocket, ConnectTimeout, open_channel
from tests.processes import Processes

HOST = """
import asyncio, sys
from open_channel import open_channel

async def listener(socket):
    async for message in socket:
        socket.write(b"first host: " + message)

async def main():
    await open_channel("full", listener, directory=sys.argv[1]).connect().wait_connected()
    print('{"ready": true}', flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def small_disk(channel_dir: Path) -> Iterator[Path]:
    """A file system of 64 KiB; needs the right to mount one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(channel_dir)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no right to mount a file system here")
    yield channel_dir
    # Lazily: the kernel lets go of a killed process's files when it comes to that, and until then,
    # though no process has any, it is busy (2 of 120 times).
    subprocess.run(["umount", "--lazy", str(channel_dir)], check=True)


def fill(disk: Path) -> None:
    with open(disk / "fill", "wb", 0) as file, contextlib.suppress(OSError):
        while file.tell() < 1 << 20:
            file.write(bytes(4096))
    assert not shutil.disk_usage(disk).free


async def test_a_takeover_needs_no_room_on_the_disk(small_disk: Path, processes: Processes):
    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            socket.write(b"second host: " + message)

    directory = small_disk / "c"
    host = processes("-c", HOST, directory)
    host.expect("ready")
    channel = open_channel("full", listener, directory=directory)
    socket = channel.connect()
    socket.write(b"before")
    assert await socket.read() == b"first host: before"
    fill(small_disk)
    host.kill()
    socket.write(b"after")
    assert await socket.read() == b"second host: after"
    await channel.close()


async def test_who_cannot_host_for_want_of_room_says_so(
    small_disk: Path, caplog: pytest.LogCaptureFixture
):
    async def listener(socket: ChannelSocket) -> None:
        pass

    directory = small_disk / "c"
    directory.mkdir(mode=0o700)
    fill(small_disk)
    channel = open_channel("full", listener, directory=directory)
    with pytest.raises(ConnectTimeout, match=r"could not host: .*No space left on device"):
        await channel.connect(0.5).wait_connected()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    (small_disk / "fill").unlink()
    async with open_channel("full", listener, directory=directory).connect():
        pass
