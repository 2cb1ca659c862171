"""Many messages, and too many: order under load, the outbox's bound, and waiting for room."""

from __future__ import annotations

import asyncio
import gc
from weakref import WeakSet

import pytest

from open_channel import ChannelClosed, ChannelSocket, Limits, OutboxFull
from tests.channel.steps import Opener, echo, eventually, mixed_messages

SMALL = Limits(window=1024, drain=2048, outbox=4096)


@pytest.mark.no_cover  # so many messages take long enough
async def test_100_000_mixed_messages_each_way_at_once_stay_in_order(opened: Opener):
    up, down = mixed_messages(100_000, seed=3), mixed_messages(100_000, seed=4)
    received: list[bytes] = []

    async def listener(socket: ChannelSocket) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(write(socket, down))
            async for message in socket:
                received.append(message)

    async def write(socket: ChannelSocket, messages: list[bytes]) -> None:
        for message in messages:
            socket.write(message)
            await socket.drain()

    await opened.connected("other", echo)
    _, socket = await opened.connected("load2", listener)
    writing = asyncio.create_task(write(socket, up))
    for message in down:
        assert await socket.read() == message
    await writing
    await socket.close()
    assert received == up


async def test_a_full_outbox_refuses_and_queues_nothing(opened: Opener):
    socket = opened("full", limits=SMALL).connect()
    messages = [b"%d " % number + bytes(300) for number in range(100)]
    accepted: list[bytes] = []

    def write_all() -> None:
        for message in messages:
            socket.write(message)
            accepted.append(message)

    with pytest.raises(OutboxFull) as caught:
        write_all()
    assert caught.value.limit == 4096
    assert caught.value.size == socket.backlog
    assert caught.value.size + len(messages[len(accepted)]) + 4 > 4096
    assert socket.backlog == sum(len(message) + 4 for message in accepted)
    opened("full", echo).connect()
    assert [await socket.read() for _ in accepted] == accepted
    socket.write(b"there is room again")
    assert await socket.read() == b"there is room again"


async def test_a_message_larger_than_the_outbox_may_travel_alone(opened: Opener):
    socket = opened("large", echo, limits=SMALL).connect()
    socket.write(bytes(10_000))
    with pytest.raises(OutboxFull):
        socket.write(b"")
    assert await socket.read() == bytes(10_000)


async def test_the_writer_of_too_much_does_not_fill_the_reader(opened: Opener):
    go_on = asyncio.Event()
    ends: list[ChannelSocket] = []

    async def listener(socket: ChannelSocket) -> None:
        ends.append(socket)
        await go_on.wait()
        await echo(socket)

    _, socket = await opened.connected("bounded", listener, limits=Limits(window=8192))
    for number in range(100):
        socket.write(b"%d" % number + bytes(1000))
        await socket.drain()
        await asyncio.sleep(0)  # a batch of its own
    await eventually(lambda: ends[0]._messages)
    assert sum(map(len, ends[0]._messages)) <= 8192
    go_on.set()
    for number in range(100):
        assert (await socket.read()).rstrip(b"\0") == b"%d" % number


async def test_drain_waits_and_the_reader_releases_it(opened: Opener):
    go_on = asyncio.Event()

    async def listener(socket: ChannelSocket) -> None:
        await go_on.wait()
        await echo(socket)

    _, socket = await opened.connected("drain", listener, limits=SMALL)
    await socket.drain()
    socket.write(bytes(1500))
    await socket.drain()  # under the limit it does not wait
    socket.write(bytes(1500))
    draining = asyncio.create_task(socket.drain())
    _, clock = await opened.connected("clock", echo)
    for _ in range(10):
        clock.write(b"tick")
        await clock.read()
    assert not draining.done()
    go_on.set()
    await draining
    assert socket.backlog <= 2048


@pytest.mark.parametrize("how", ["close", "destroy"])
async def test_closing_ends_a_drain_that_waits(opened: Opener, how: str):
    socket = opened("nobody", limits=SMALL).connect(timeout=None)
    socket.write(bytes(3000))
    draining = asyncio.create_task(socket.drain())
    await asyncio.sleep(0)
    if how == "close":
        await socket.close(timeout=0)
    else:
        socket.destroy()
    with pytest.raises(ChannelClosed):
        await draining


async def test_many_writers_wait_for_room_and_all_are_released(opened: Opener):
    received: list[bytes] = []

    async def listener(socket: ChannelSocket) -> None:
        async for message in socket:
            received.append(message)

    _, socket = await opened.connected("writers", listener, limits=SMALL)

    async def write(name: int) -> None:
        for number in range(50):
            await socket.drain()
            socket.write(b"%d %d " % (name, number))

    async with asyncio.TaskGroup() as group:
        for name in range(10):
            group.create_task(write(name))
    await socket.close()
    for name in range(10):
        own = [message for message in received if message.startswith(b"%d " % name)]
        assert own == [b"%d %d " % (name, number) for number in range(50)]


async def test_a_host_that_takes_only_smaller_messages_lowers_the_limit(opened: Opener):
    await opened.connected("lower", echo, limits=Limits(max_message=1000))
    _, socket = await opened.connected("lower")
    assert socket.max_message == 1000


async def test_a_message_too_large_for_the_host_that_was_written_early_is_no_endless_loop(
    opened: Opener,
):
    await opened.connected("early", echo, limits=Limits(max_message=1000))
    socket = opened("early").connect()
    socket.write(bytes(1001))
    # Whatever becomes of it, it is told, once, and in time.
    with pytest.raises(Exception, match="1001"):
        await asyncio.wait_for(socket.read(), 3)


async def test_a_listener_may_keep_its_clients_in_a_weak_set(opened: Opener):
    clients: WeakSet[ChannelSocket] = WeakSet()

    async def listener(socket: ChannelSocket) -> None:
        clients.add(socket)
        await echo(socket)

    _, socket = await opened.connected("weak", listener)
    socket.write(b"x")
    assert await socket.read() == b"x"
    assert len(clients) == 1
    await socket.close()
    await eventually(lambda: gc.collect() is not None and not clients)
