"""A hosting's begin and end: what it leaves on disk, in the log, and in the event loop."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from open_channel import ChannelSocket, open_channel
from open_channel.io.directory import ChannelFiles
from open_channel.io.host import Host
from open_channel.protocol.records import HostRecord, decode_host, encode_record
from open_channel.sync import open_channel as open_blocking
from tests.channel.programs import Programs


async def listener(socket: ChannelSocket) -> None:
    async for message in socket:
        socket.write(message)


async def host_once() -> None:
    async with open_channel("chat", listener).connect():
        pass


# --- what is in the way ---------------------------------------------------------------------------


async def test_what_is_in_the_way_is_logged_once(
    channel_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """... until it is another, or hosting has succeeded."""
    full, out, ready = errno.ENOSPC, errno.EMFILE, 0
    ahead = [full, full, full, out, out, full, ready, full, full, ready]
    publish = Host.publish
    hosts = []

    def publish_at_last(host: Host) -> None:
        hosts.append(host)
        if number := ahead.pop(0):
            raise OSError(number, os.strerror(number))
        publish(host)

    monkeypatch.setattr(Host, "publish", publish_at_last)
    channel = open_channel("chat", listener)
    socket = channel.connect(timeout=None)
    await socket.wait_connected()
    assert channel.hosting
    hosts[-1].step_down("the test wants another")  # which the same member becomes
    socket.write(b"hello")
    assert await socket.read() == b"hello"
    await socket.close()
    assert not ahead
    logged = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert logged == [
        f"chat: cannot host: [Errno {number}] {os.strerror(number)}"
        for number in (full, out, full, full)
    ]
    assert not list(channel_dir.glob("*.l.*"))  # none of those who could not has left its socket


FEW = """
import asyncio, os, resource, sys
from open_channel import ConnectTimeout, open_channel

async def listener(socket):
    pass

async def connect(left):
    channel = open_channel("few", listener if sys.argv[1] else None)
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        for descriptor in taken[:left]:
            os.close(descriptor)
    try:
        await channel.connect(0.3).wait_connected()
        print("connected")
    except ConnectTimeout as error:
        print(error.last)
    for descriptor in taken[left:]:
        os.close(descriptor)
    await channel.close()

async def main():
    async with open_channel("imports", listener).connect():
        pass  # what is imported with a first use needs descriptors, too
    soft = len(os.listdir("/proc/self/fd")) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    for left in range(5):
        await connect(left)

asyncio.run(main())
"""


@pytest.mark.parametrize("hosts", ["", "hosts"])
def test_out_of_descriptors(run: Programs, hosts: str) -> None:
    """However few are left, the reason is told, or they are enough."""
    with contextlib.ExitStack() as stack:
        if not hosts:
            stack.enter_context(open_blocking("few", list).connect())
        program = run(FEW, hosts)
        assert program.wait_end() == 0, program.errors()
    assert len(program.lines) == 5
    reasons = [line for line in program.lines if line != "connected"]
    assert reasons
    for reason in reasons:
        assert "Too many open files" in reason or (hosts and "not answer" in reason)
    assert "Traceback" not in program.errors()


# --- a forged record ------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["notes.txt", "KEY.b", "KEY.k.0123456789abcdef0123"])
async def test_a_record_that_names_another_file_does_not_delete_it(
    channel_dir: Path, kept: str
) -> None:
    files = ChannelFiles.of(str(channel_dir), "chat")
    await host_once()
    path = Path(files.path(kept.replace("KEY", files.key)))
    path.write_text("precious")
    record = decode_host(Path(files.lock("l")).read_bytes())
    assert record is not None
    Path(files.lock("l")).write_bytes(encode_record(record._replace(socket=path.name)))
    await host_once()
    assert path.read_text() == "precious"


async def test_the_socket_of_a_dead_hosting_is_deleted(channel_dir: Path) -> None:
    files = ChannelFiles.of(str(channel_dir), "chat")
    left = files.socket("l", 7)
    Path(files.path(left)).touch()
    record = HostRecord("chat", "listener", 7, 3, left, 1, "00" * 16, 1.0, lineage=7)
    Path(files.lock("l")).write_bytes(encode_record(record))
    await host_once()
    assert not Path(files.path(left)).exists()


# --- the end of the event loop --------------------------------------------------------------------


def test_a_loop_that_ends_while_somebody_arrives_leaves_no_socket_open(run: Programs) -> None:
    program = run(
        """
        import asyncio, gc, warnings
        from open_channel import open_channel

        warnings.simplefilter("always")

        async def listener(socket):
            async for message in socket:
                socket.write(message)

        async def main(turns):
            socket = open_channel("ends", listener).connect()
            socket.write(b"1")
            for _ in range(turns):
                await asyncio.sleep(0)

        for turns in range(20):
            asyncio.run(main(turns))
            gc.collect()
        """
    )
    assert program.wait_end() == 0
    assert program.errors() == ""
