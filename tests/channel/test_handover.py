"""A host that leaves in order: nothing is lost, and what is in hand is finished first."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from open_channel import Channel, ChannelSocket, Limits, sync
from open_channel.io.directory import ChannelFiles
from open_channel.protocol.control import Hello, encode_hello
from open_channel.protocol.frames import HEADER, Kind
from open_channel.protocol.records import decode_host
from tests.channel.steps import Opener, cut, echo, eventually


async def test_the_other_listener_takes_over(opened: Opener):
    first, _ = await opened.connected("over", echo)
    second, socket = await opened.connected("over", echo)
    assert (first.hosting, second.hosting) == (True, False)
    await first.close()
    socket.write(b"hello")
    assert await socket.read() == b"hello"
    assert (first.hosting, second.hosting) == (False, True)
    assert second.connected


async def test_a_listener_that_closes_its_socket_itself_ends_no_client(opened: Opener):
    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            socket.write(message)
        await socket.close()

    first, _ = await opened.connected("closes", listener)
    second, _ = await opened.connected("closes", listener)
    client, socket = await opened.connected("closes")
    await first.close()
    socket.write(b"hello")
    assert await socket.read() == b"hello"
    assert client.peer == second.peer


class _Failed(Exception):
    pass


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("how", ["return", "raise", "close", "destroy"])
async def test_a_listener_that_ends_a_conversation_meanwhile_is_obeyed(
    opened: Opener, how: str, blocking: bool, caplog: pytest.LogCaptureFixture
):
    loop = asyncio.get_running_loop()
    taken, go_on = asyncio.Event(), threading.Event()

    async def listener(socket: ChannelSocket) -> None:
        if not await socket.read():
            return  # the host's own
        taken.set()
        await asyncio.to_thread(go_on.wait)
        socket.write(b"bye")
        if how == "raise":
            raise _Failed
        if how == "close":
            await socket.close(0)
        elif how == "destroy":
            socket.destroy()
        if how != "return":
            await asyncio.sleep(0.05)

    def blocking_listener(socket: sync.ChannelSocket) -> None:
        if not socket.read():
            return
        loop.call_soon_threadsafe(taken.set)
        go_on.wait()
        socket.write(b"bye")
        if how == "raise":
            raise _Failed
        if how == "close":
            socket.close(0)
        elif how == "destroy":
            socket.destroy()

    if blocking:
        first: Channel | sync.Channel = sync.open_channel("ends", blocking_listener)
        await asyncio.to_thread(lambda: first.connect().wait_connected())
        closing = asyncio.to_thread(first.close)
    else:
        first, _ = await opened.connected("ends", listener)
        closing = first.close()
    await opened.connected("ends", echo)
    client, socket = await opened.connected("ends")
    socket.write(b"first")
    socket.write(b"second")
    await taken.wait()
    task = asyncio.create_task(closing)
    await asyncio.sleep(0.1)
    go_on.set()
    assert [await socket.read() for _ in range(2)] == [b"bye", b""]
    await eventually(lambda: client.state == "closed")
    await task
    failed = [record for record in caplog.records if record.levelno > logging.INFO]
    assert len(failed) == (how == "raise")


async def test_a_client_goes_through_connecting_to_the_next_host(opened: Opener):
    first, _ = await opened.connected("states", echo)
    second, _ = await opened.connected("states", echo)
    client, _ = await opened.connected("states")
    old = client.peer
    seen = ["connected"]

    def look() -> bool:
        if client.state != seen[-1]:
            seen.append(client.state)
        return client.peer != old

    closing = asyncio.create_task(first.close())
    await eventually(look, every_turn=True)
    await closing
    assert seen == ["connected", "connecting", "connected"]
    assert client.peer.member != old.member
    assert second.hosting
    await client.close()
    assert client.state == "closed"


async def test_the_message_in_hand_is_finished_and_not_delivered_again(opened: Opener):
    taken, go_on = asyncio.Event(), asyncio.Event()
    handled: list[tuple[str, bytes]] = []

    def named(name: str):
        async def listener(socket: ChannelSocket) -> None:
            async for message in socket:
                handled.append((name, message))
                if message == b"hold":
                    taken.set()
                    await go_on.wait()
                socket.write(message + b" done by " + name.encode())

        return listener

    first, _ = await opened.connected("hand", named("first"))
    await opened.connected("hand", named("second"))
    client, socket = await opened.connected("hand")
    socket.write(b"hold")
    socket.write(b"after")
    await taken.wait()
    closing = asyncio.create_task(first.close())
    await eventually(lambda: first.state == "closed")
    await asyncio.sleep(0)
    assert client.connected
    go_on.set()
    assert await socket.read() == b"hold done by first"
    assert await socket.read() == b"after done by second"
    await closing
    assert handled == [("first", b"hold"), ("second", b"after")]


async def test_a_listener_that_does_not_finish_is_cancelled_and_its_message_goes_on(
    opened: Opener,
):
    cancelled: list[bytes] = []
    taken = asyncio.Event()

    async def stuck(socket: ChannelSocket) -> None:
        async for message in socket:
            taken.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(message)
                raise

    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            socket.write(message + b" redelivered" * socket.redelivered)

    first, _ = await opened.connected("stuck", stuck)
    await opened.connected("stuck", listener)
    _, socket = await opened.connected("stuck")
    socket.write(b"work")
    await taken.wait()
    await first.close()
    assert await socket.read() == b"work redelivered"
    assert cancelled == [b"work"]


@pytest.mark.parametrize("how", ["drains", "closes"])
async def test_a_listener_that_drains_or_closes_is_released_during_the_handover(
    opened: Opener, how: str
):
    waiting = asyncio.Event()
    finished: list[str] = []

    async def listener(socket: ChannelSocket) -> None:
        async for _ in socket:
            for _ in range(10):
                socket.write(bytes(1000))
            waiting.set()
            if how == "drains":
                await socket.drain()
                socket.write(b"and the rest")
            else:
                await socket.close()
            finished.append(how)

    limits = Limits(window=2048, drain=0)
    host, _ = await opened.connected("waits", listener, limits=limits)
    _, socket = await opened.connected("waits")
    socket.write(b"go")
    await waiting.wait()
    leaving = asyncio.create_task(host.close())
    await eventually(lambda: host.state == "closed")
    async with asyncio.timeout(1):  # half of what a listener is given
        answers = [await socket.read() for _ in range(10)]
        assert answers == [bytes(1000)] * 10
        if how == "drains":
            assert await socket.read() == b"and the rest"
        await leaving
    assert finished == [how]


async def test_closing_without_a_host_is_quick_when_nothing_is_left_to_deliver(opened: Opener):
    host, _ = await opened.connected("gone", echo)
    client, socket = await opened.connected("gone")
    socket.write(b"hello")
    assert await socket.read() == b"hello"
    await eventually(lambda: socket.backlog == 0)
    await host.close()
    await eventually(lambda: client.state == "connecting")
    async with asyncio.timeout(1):
        await socket.close()


async def test_an_orderly_life_with_handovers_logs_no_warning(
    opened: Opener, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    hosts = [(await opened.connected("calm", echo))[0] for _ in range(3)]
    _, socket = await opened.connected("calm")
    for number, host in enumerate(hosts):
        socket.write(b"%d" % number)
        assert await socket.read() == b"%d" % number
        if number < 2:
            await host.close()
    await socket.close()
    await hosts[2].close()
    own = [record for record in caplog.records if record.name.startswith("open_channel")]
    assert [record.getMessage() for record in own if record.levelno >= logging.WARNING] == []
    assert any("handed over" in record.getMessage() for record in own)
    other = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert other == []


async def stream_through_handovers(
    opened: Opener, count: int, *, cutting: bool
) -> tuple[list[int], list[tuple[int, bool]]]:
    """Stream numbers through hosts that leave one after another; give answers and handled."""
    handled: list[tuple[int, bool]] = []

    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            handled.append((int(message), socket.redelivered))
            if len(handled) % 7 == 0:
                await asyncio.sleep(0)
            socket.write(message)

    async def new_host() -> Channel:
        return (await opened.connected("stream", listener))[0]

    hosts = [await new_host(), await new_host()]
    _, socket = await opened.connected("stream")
    leaving: list[asyncio.Task[None]] = []
    answers: list[int] = []
    written = 0
    while count - 1 not in answers[-1:]:
        while written < count and written < len(answers) + 100:
            socket.write(b"%d" % written)
            written += 1
        answers.append(int(await socket.read()))
        if len(answers) % 300 == 150:
            host = next(host for host in hosts if host.hosting)
            hosts.remove(host)
            hosts.append(await new_host())
            leaving.append(asyncio.create_task(host.close()))
        if cutting and len(answers) % 100 == 50:
            cut(socket)
    await asyncio.gather(*leaving)
    return answers, handled


async def test_each_message_is_handled_once_through_many_handovers(opened: Opener):
    answers, handled = await stream_through_handovers(opened, 3000, cutting=False)
    assert answers == list(range(3000))
    assert [number for number, _ in handled] == list(range(3000))


async def test_a_handover_to_a_client_that_is_cut_off_loses_nothing(opened: Opener):
    # What the leaving host acknowledged to a broken connection is sent again, and marked.
    answers, handled = await stream_through_handovers(opened, 3000, cutting=True)
    assert list(dict.fromkeys(answers)) == list(range(3000))
    first = set()
    for number, redelivered in handled:
        assert number not in first or redelivered
        first.add(number)
    assert first == set(range(3000))


async def test_a_host_that_is_alone_leaves_and_another_may_come(opened: Opener):
    first, _ = await opened.connected("alone", echo)
    client, socket = await opened.connected("alone")
    await first.close()
    await eventually(lambda: client.state == "connecting")
    socket.write(b"while nobody hosts")
    await opened.connected("alone", echo)
    assert await socket.read() == b"while nobody hosts"


async def test_who_says_hello_while_a_host_hands_over_is_refused(opened: Opener, channel_dir: Path):
    """Nobody would tell its listener that the host has left."""
    begun: list[ChannelSocket] = []
    go_on = asyncio.Event()

    async def listener(socket: ChannelSocket) -> None:
        begun.append(socket)
        await socket.read()
        await go_on.wait()

    channel, socket = await opened.connected("hello", listener)
    files = ChannelFiles.of(str(channel_dir), "hello")
    record = decode_host(Path(files.lock("l")).read_bytes())
    assert record is not None
    reader, writer = await asyncio.open_unix_connection(files.path(record.socket))
    socket.write(b"in hand")
    await eventually(lambda: begun and not begun[0].backlog)
    await asyncio.sleep(0.05)  # so that the message is in hand
    leaving = asyncio.create_task(channel.close(timeout=0))
    await eventually(lambda: not Path(files.path(record.socket)).exists())
    hello = Hello("l", bytes(range(16)), 1, 0, 0, 1 << 22, 1 << 26)
    writer.write(encode_hello(hello))
    async with asyncio.timeout(5):
        header = await reader.readexactly(HEADER.size)
    assert HEADER.unpack(header)[1] == Kind.REFUSAL
    go_on.set()
    await leaving
    writer.close()
    assert len(begun) == 1
