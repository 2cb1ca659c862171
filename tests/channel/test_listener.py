"""Listeners: what they may be, what their end means, and what is logged of them."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import Any

import pytest

from open_channel import ChannelClosed, ChannelSocket
from tests.channel.steps import Opener, echo, eventually


def serious(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_plain_function_gives_the_socket_to_somebody_who_keeps_it(opened: Opener):
    given: list[ChannelSocket] = []
    _, socket = await opened.connected("plain", given.append)
    await eventually(lambda: given)
    socket.write(b"1")
    assert await given[0].read() == b"1"
    given[0].write(b"2")
    assert await socket.read() == b"2"
    await given[0].close()
    assert await socket.read() == b""


@pytest.mark.parametrize("kind", ["partial", "object", "method", "future"])
async def test_whatever_can_be_awaited_is_awaited(opened: Opener, kind: str):
    class Object:
        async def __call__(self, socket: ChannelSocket) -> None:
            await echo(socket)

        async def method(self, socket: ChannelSocket) -> None:
            await echo(socket)

    async def with_option(option: int, socket: ChannelSocket) -> None:
        await echo(socket)

    listener = {
        "partial": functools.partial(with_option, 1),
        "object": Object(),
        "method": Object().method,
        "future": lambda socket: asyncio.ensure_future(echo(socket)),
    }[kind]
    channel, socket = await opened.connected("kinds", listener)
    socket.write(b"hello")
    assert await socket.read() == b"hello"
    assert channel.connected


async def test_a_plain_function_that_raises_is_logged_and_its_connection_closed(
    opened: Opener, caplog: pytest.LogCaptureFixture
):
    def listener(socket: ChannelSocket) -> None:
        raise LookupError("the listener's own")

    channel = opened("raises", listener)
    assert await channel.connect().read() == b""
    assert channel.state == "closed"
    assert len(serious(caplog)) == 1


async def test_an_error_is_logged_once_with_its_traceback(
    opened: Opener, caplog: pytest.LogCaptureFixture
):
    async def listener(socket: ChannelSocket) -> None:
        await socket.read()
        raise LookupError("the listener's own")

    _, socket = await opened.connected("raises", listener)
    socket.write(b"go")
    assert await socket.read() == b""
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.name, record.levelname) == ("open_channel", "ERROR")
    assert "'raises'" in record.getMessage() or "raises:" in record.getMessage()
    assert "LookupError: the listener's own" in caplog.text
    assert "in listener" in caplog.text


async def test_a_listener_whose_client_has_gone_may_fail_to_write(
    opened: Opener, caplog: pytest.LogCaptureFixture
):
    failures: list[str] = []

    async def listener(socket: ChannelSocket) -> None:
        async for _ in socket:
            pass
        try:
            socket.write(b"too late")
        except ChannelClosed as error:
            failures.append(error.reason)
            raise

    await opened.connected("gone", listener)
    _, socket = await opened.connected("gone")
    socket.destroy()
    await eventually(lambda: failures)
    assert failures == ["the client has gone"]
    assert serious(caplog) == []


async def test_a_listener_that_is_cancelled_ends_its_connection(opened: Opener):
    async def listener(socket: ChannelSocket) -> None:
        await socket.read()
        raise asyncio.CancelledError

    channel, socket = await opened.connected("cancelled", listener)
    socket.write(b"go")
    assert await asyncio.wait_for(socket.read(), 5) == b""
    assert channel.state == "closed"


@pytest.mark.parametrize("swallows", [False, True])
async def test_a_listener_that_somebody_cancels_ends_its_connection_alone(
    opened: Opener, swallows: bool
):
    tasks: list[asyncio.Task[Any] | None] = []

    async def listener(socket: ChannelSocket) -> None:
        tasks.append(asyncio.current_task())
        try:
            await echo(socket)
        except asyncio.CancelledError:
            if not swallows:
                raise

    first, own = await opened.connected("alone", listener)
    second, socket = await opened.connected("alone")
    for talking in (own, socket):
        talking.write(b"hello")
        assert await talking.read() == b"hello"
    tasks[1].cancel()
    assert await asyncio.wait_for(socket.read(), 5) == b""
    assert (first.state, second.state) == ("connected", "closed")
    own.write(b"still there")
    assert await own.read() == b"still there"


async def test_a_listener_can_be_client_of_another_channel(opened: Opener):
    async def front(socket: ChannelSocket) -> None:
        async with opened("back").connect() as back:
            async for message in socket:
                back.write(message)
                socket.write(await back.read())

    await opened.connected("back", echo)
    _, socket = await opened.connected("front", front)
    socket.write(b"through")
    assert await socket.read() == b"through"


async def test_a_listener_can_serve_with_several_tasks(opened: Opener):
    async def listener(socket: ChannelSocket) -> None:
        async def serve() -> None:
            async for message in socket:
                await asyncio.sleep(0)
                socket.write(message)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(serve())

    _, socket = await opened.connected("tasks", listener)
    for number in range(100):
        socket.write(b"%d" % number)
    answers = [int(await socket.read()) for _ in range(100)]
    assert sorted(answers) == list(range(100))
    await socket.close()


async def test_a_normal_life_logs_nothing_to_worry_about(
    opened: Opener, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    host, own = await opened.connected("normal", echo)
    for _ in range(3):
        client, socket = await opened.connected("normal")
        socket.write(b"hello")
        assert await socket.read() == b"hello"
        await client.close()
    own.write(b"hello")
    assert await own.read() == b"hello"
    await host.close()
    assert serious(caplog) == []
    assert caplog.records
