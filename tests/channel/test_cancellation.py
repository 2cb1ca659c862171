"""Whatever waits can be cancelled, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import random

import pytest

from open_channel import ChannelClosed, ChannelSocket, Limits
from tests.channel.steps import Opener, echo, eventually

COUNT = 3000


async def count_up(socket: ChannelSocket) -> None:
    """A listener that writes numbers, in portions of random size."""
    chance = random.Random(5)
    number = 0
    while number < COUNT:
        for _ in range(min(chance.randrange(1, 8), COUNT - number)):
            socket.write(b"%d" % number)
            number += 1
        await asyncio.sleep(0)
        await socket.drain()
    await socket.read()


async def test_a_cancelled_read_loses_nothing(opened: Opener):
    _, socket = await opened.connected("cancel", count_up)
    chance = random.Random(6)
    received: list[int] = []
    cancelled = 0
    while len(received) < COUNT:
        reading = asyncio.create_task(socket.read())
        for _ in range(chance.randrange(3)):
            await asyncio.sleep(0)
        reading.cancel()
        try:
            received.append(int(await reading))
        except asyncio.CancelledError:
            cancelled += 1
    assert received == list(range(COUNT))
    assert cancelled > 0


async def test_a_read_under_a_tiny_timeout_loses_nothing(opened: Opener):
    _, socket = await opened.connected("tiny", count_up)
    received: list[int] = []
    while len(received) < COUNT:
        try:
            received.append(int(await asyncio.wait_for(socket.read(), 1e-6)))
        except TimeoutError:
            continue
    assert received == list(range(COUNT))


async def test_a_read_in_a_timeout_block_loses_nothing(opened: Opener):
    _, socket = await opened.connected("block", count_up)
    received: list[int] = []
    chance = random.Random(7)
    while len(received) < COUNT:
        try:
            async with asyncio.timeout(chance.random() * 1e-4):
                while len(received) < COUNT:
                    received.append(int(await socket.read()))
        except TimeoutError:
            continue
    assert received == list(range(COUNT))


async def test_a_read_in_vain_leaves_nothing_behind(opened: Opener):
    _, socket = await opened.connected("vain", echo)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await socket.read()
        assert not socket._readers.waiting


async def test_many_readers_of_which_some_are_cancelled_lose_nothing(opened: Opener):
    _, socket = await opened.connected("readers", count_up)
    received: list[int] = []

    async def read() -> None:
        while True:
            received.append(int(await socket.read()))

    readers = [asyncio.create_task(read()) for _ in range(5)]
    chance = random.Random(8)
    while len(received) < COUNT:
        chosen = chance.randrange(5)
        readers[chosen].cancel()
        readers[chosen] = asyncio.create_task(read())
        await asyncio.sleep(0)
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    assert sorted(received) == list(range(COUNT))


async def test_a_reader_cancelled_in_the_turn_in_which_a_message_comes_leaves_it(opened: Opener):
    _, socket = await opened.connected("turn", echo)

    async def read() -> bytes:
        return await socket.read()

    for number in range(50):
        reading = asyncio.create_task(read())
        await asyncio.sleep(0)
        socket.write(b"%d" % number)
        # Polled in each turn, so that the cancellation falls into that of the message's arrival.
        await eventually(lambda: socket._messages or reading.done(), every_turn=True)  # noqa: B023
        reading.cancel()
        try:
            message = await reading
        except asyncio.CancelledError:
            message = await socket.read()
        assert message == b"%d" % number


async def test_a_task_group_is_cancelled_with_its_readers(opened: Opener):
    _, socket = await opened.connected("group", echo)

    async def fail() -> None:
        raise LookupError

    async def fail_beside_readers() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(socket.read())
            await asyncio.sleep(0)
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await fail_beside_readers()
    assert caught.group_contains(LookupError)
    socket.write(b"still usable")
    assert await socket.read() == b"still usable"


async def test_a_cancelled_drain_leaves_the_socket_usable(opened: Opener):
    socket = opened("drain", limits=Limits(window=1024, drain=0)).connect()
    socket.write(b"kept")
    draining = asyncio.create_task(socket.drain())
    await asyncio.sleep(0)
    draining.cancel()
    await asyncio.wait([draining])
    assert draining.cancelled()
    opened("drain", echo).connect()
    assert await socket.read() == b"kept"
    await socket.drain()


async def test_a_cancelled_wait_for_the_connection_leaves_it_connecting(opened: Opener):
    channel = opened("wait")
    socket = channel.connect()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(socket.wait_connected(), 0.001)
    assert channel.state == "connecting"
    opened("wait", echo).connect()
    await socket.wait_connected()
    socket.write(b"hello")
    assert await socket.read() == b"hello"


async def test_a_cancelled_close_destroys(opened: Opener):
    channel, socket = await opened.connected("close", lambda socket: None)  # nobody reads
    socket.write(b"never consumed")
    closing = asyncio.create_task(socket.close())
    await asyncio.sleep(0)
    assert channel.state == "connected"
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert channel.state == "closed"
    with pytest.raises(ChannelClosed):
        socket.write(b"more")


async def test_close_gives_up_when_its_timeout_passes(opened: Opener):
    channel, socket = await opened.connected("close", lambda socket: None)  # nobody reads
    socket.write(b"never consumed")
    loop = asyncio.get_running_loop()
    before = loop.time()
    await socket.close(timeout=0.1)
    assert 0.09 < loop.time() - before < 2
    assert channel.state == "closed"


async def test_destroying_ends_a_close_that_waits(opened: Opener):
    _, socket = await opened.connected("close", lambda socket: None)  # nobody reads
    socket.write(b"never consumed")
    closing = asyncio.create_task(socket.close(timeout=60))
    await asyncio.sleep(0)
    socket.destroy()
    await asyncio.wait_for(closing, 5)
