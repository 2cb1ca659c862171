"""While the host lives, each message is handled once and in order, whatever its connections do."""

from __future__ import annotations

import asyncio

import pytest

from open_channel import ChannelSocket, Limits
from tests.channel.steps import Opener, cut, cut_and_mend, echo, eventually, mixed_messages


async def test_a_message_is_acknowledged_when_the_listener_comes_back(opened: Opener):
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def listener(socket: ChannelSocket) -> None:
        await socket.read()
        taken.set()
        await go_on.wait()
        await socket.read()

    _, socket = await opened.connected("ack", listener)
    _, clock = await opened.connected("clock", echo)
    socket.write(b"in hand")
    await taken.wait()
    for _ in range(10):
        clock.write(b"tick")
        await clock.read()
    assert socket.backlog == len(b"in hand") + 4
    go_on.set()
    await eventually(lambda: socket.backlog == 0)


async def test_a_message_is_acknowledged_when_the_listener_returns(opened: Opener):
    async def listener(socket: ChannelSocket) -> None:
        await socket.read()
        socket.write(b"done")

    channel, socket = await opened.connected("ack", listener)
    socket.write(b"work")
    assert await socket.read() == b"done"
    await eventually(lambda: channel.state == "closed")
    assert socket.backlog == 0


async def test_a_cut_is_mended_and_seen_in_the_state(opened: Opener):
    await opened.connected("cut", echo)
    channel, socket = await opened.connected("cut")
    assert cut(socket)
    await eventually(lambda: channel.state == "connecting", every_turn=True)
    assert not channel.connected
    await socket.wait_connected()
    assert channel.state == "connected"
    socket.write(b"again")
    assert await socket.read() == b"again"


async def test_the_listener_keeps_its_socket_through_a_cut(opened: Opener):
    calls: list[ChannelSocket] = []

    async def listener(socket: ChannelSocket) -> None:
        calls.append(socket)
        await echo(socket)

    _, socket = await opened.connected("keep", listener)
    await eventually(lambda: calls)
    for number in range(6):
        await cut_and_mend(calls[0] if number % 2 else socket)
        socket.write(b"%d" % number)
        assert await socket.read() == b"%d" % number
    assert len(calls) == 1


async def test_the_message_in_hand_is_not_delivered_again_after_a_cut(opened: Opener):
    taken, go_on = asyncio.Event(), asyncio.Event()
    received: list[tuple[bytes, bool]] = []

    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            received.append((message, socket.redelivered))
            if message == b"hold":
                taken.set()
                await go_on.wait()
                socket.write(b"held")

    _, socket = await opened.connected("hand", listener)
    socket.write(b"hold")
    socket.write(b"next")
    await taken.wait()
    await cut_and_mend(socket)
    go_on.set()
    assert await socket.read() == b"held"
    await eventually(lambda: socket.backlog == 0)
    assert received == [(b"hold", False), (b"next", False)]


@pytest.mark.parametrize("side", ["client", "listener", "both"])
async def test_exactly_once_under_load_both_ways_through_many_cuts(opened: Opener, side: str):
    up, down = mixed_messages(4000, seed=1), mixed_messages(4000, seed=2)
    received: list[bytes] = []
    ends: list[ChannelSocket] = []

    async def listener(socket: ChannelSocket) -> None:
        ends.append(socket)
        if len(ends) == 1:
            await echo(socket)  # the host's own client, which has no part in this
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(write_all(socket, down))
                async for message in socket:
                    received.append(message)

    limits = Limits(window=64 * 1024, drain=32 * 1024)
    await opened.connected("load", listener, limits=limits)
    _, socket = await opened.connected("load", limits=limits)
    await eventually(lambda: len(ends) == 2)
    writing = asyncio.create_task(write_all(socket, up))
    answers: list[bytes] = []
    cuts = 0
    while len(answers) < len(down):
        answers.append(await socket.read())
        if len(answers) % 200 == 100:
            chosen = ends[1] if side == "listener" or (side == "both" and cuts % 2) else socket
            cuts += cut(chosen)
    await writing
    await eventually(lambda: socket.backlog == 0)
    assert cuts > 5
    assert answers == down
    assert received == up


async def write_all(socket: ChannelSocket, messages: list[bytes]) -> None:
    for message in messages:
        socket.write(message)
        await socket.drain()


async def test_a_large_message_survives_cuts(opened: Opener):
    await opened.connected("large", echo)
    _, socket = await opened.connected("large")
    message = bytes(range(256)) * 64 * 1024  # 16 MiB
    socket.write(message)
    for _ in range(3):
        await cut_and_mend(socket)
    assert await socket.read() == message


async def test_what_the_listener_wrote_before_returning_survives_a_cut(opened: Opener):
    async def listener(socket: ChannelSocket) -> None:
        await socket.read()
        for number in range(100):
            socket.write(b"%d" % number)
        cut(socket)

    await opened.connected("host", echo)
    channel, socket = await opened.connected("return", listener)
    socket.write(b"go")
    assert [message async for message in socket] == [b"%d" % number for number in range(100)]
    assert channel.state == "closed"


async def test_close_delivers_through_a_cut(opened: Opener):
    received: list[bytes] = []
    over = asyncio.Event()

    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            received.append(message)
        over.set()

    opened("close", listener).connect()
    _, socket = await opened.connected("close")
    for number in range(1000):
        socket.write(b"%d" % number)
    closing = asyncio.create_task(socket.close())
    await asyncio.sleep(0)
    cut(socket)
    await closing
    await over.wait()
    assert received == [b"%d" % number for number in range(1000)]


async def test_a_client_that_dies_while_it_is_cut_off_ends_the_listeners_iteration(
    opened: Opener,
):
    ended: list[str] = []

    async def listener(socket: ChannelSocket) -> None:
        await echo(socket)
        ended.append(socket.peer.member)

    await opened.connected("gone", listener)
    _, socket = await opened.connected("gone")
    cut(socket)
    socket.destroy()
    await eventually(lambda: len(ended) == 1)
