"""How every API must talk and end: run against asyncio, uvloop and the blocking API.

A subclass is run by pytest; the fixture ``api`` opens channels whose methods are those of the
asyncio API, whatever is behind them.
"""

from __future__ import annotations

import array
import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from open_channel import ChannelClosed, Limits, MessageTooLarge
from tests.channel.steps import echo, eventually, mixed_messages

Api = Callable[..., Any]

KIB = 1024
MIB = 1024 * KIB


async def collect(socket: Any) -> list[bytes]:
    return [message async for message in socket]


class Messages:
    """What is written is what is read."""

    @pytest.mark.parametrize(
        "size", [0, 1, 64 * KIB - 5, 64 * KIB - 4, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB]
    )
    async def test_messages_are_kept_whole(self, api: Api, size: int):
        socket = api("whole", echo).connect()
        message = os.urandom(size)
        for _ in range(3):
            socket.write(message)
        for _ in range(3):
            assert await socket.read() == message

    async def test_the_largest_message(self, api: Api):
        socket = api("large", echo).connect()
        message = os.urandom(MIB) * 64
        socket.write(message)
        assert await socket.read() == message

    async def test_one_byte_too_many_is_refused_and_the_socket_goes_on(self, api: Api):
        socket = api("over", echo, limits=Limits(max_message=1000)).connect()
        with pytest.raises(MessageTooLarge) as caught:
            socket.write(bytes(1001))
        assert (caught.value.size, caught.value.limit) == (1001, 1000)
        socket.write(bytes(1000))
        assert await socket.read() == bytes(1000)

    async def test_what_changes_after_write_is_copied(self, api: Api):
        socket = api("mutable", echo).connect()
        buffer = bytearray(b"before")
        socket.write(buffer)
        buffer[:] = b"after!"
        socket.write(memoryview(buffer))
        buffer[:] = b"later?"
        assert await socket.read() == b"before"
        assert await socket.read() == b"after!"

    @pytest.mark.parametrize(
        "view",
        [
            memoryview(b"abcdef")[::2],
            memoryview(b"abcdef")[::-1],
            memoryview(array.array("I", [1, 2, 3])),
            memoryview(array.array("d", [1.5, 2.5]))[1:],
            memoryview(bytes(range(6))).cast("B", (2, 3)),
        ],
        ids=["strided", "reversed", "integers", "doubles", "matrix"],
    )
    async def test_any_buffer_is_written_as_its_bytes(self, api: Api, view: memoryview):
        socket = api("buffer", echo).connect()
        socket.write(view)
        message = await socket.read()
        assert type(message) is bytes
        assert message == view.tobytes()

    @pytest.mark.parametrize("message", ["text", None, 3, [b"a"]])
    async def test_what_is_not_bytes_like_is_refused(self, api: Api, message: object):
        socket = api("typed", echo).connect()
        with pytest.raises(TypeError, match="bytes-like"):
            socket.write(message)
        socket.write(b"ok")
        assert await socket.read() == b"ok"

    async def test_at_end_tells_an_empty_message_from_the_end(self, api: Api):
        async def listener(socket: Any) -> None:
            socket.write(b"")

        socket = api("empty", listener).connect()
        assert await socket.read() == b""
        # The end may have come with the message already; what was read was none the less one.
        assert await socket.read() == b""
        assert socket.at_end

    async def test_iteration_gives_empty_messages_too(self, api: Api):
        async def listener(socket: Any) -> None:
            for message in (b"", b"1", b""):
                socket.write(message)

        assert await collect(api("empties", listener).connect()) == [b"", b"1", b""]

    async def test_nothing_is_redelivered_while_the_host_lives(self, api: Api):
        async def listener(socket: Any) -> None:
            async for _ in socket:
                socket.write(b"%d" % socket.redelivered)

        socket = api("once", listener).connect()
        for _ in range(3):
            socket.write(b"?")
        assert [await socket.read() for _ in range(3)] == [b"0", b"0", b"0"]

    async def test_many_mixed_messages_stay_in_order(self, api: Api):
        messages = mixed_messages(2000, seed=1)
        socket = api("mixed", echo).connect()
        for message in messages:
            socket.write(message)
        for message in messages:
            assert await socket.read() == message


class Ends:
    """How a conversation ends, from either side."""

    async def test_what_the_listener_wrote_before_its_return_is_read(self, api: Api):
        async def listener(socket: Any) -> None:
            await socket.read()
            for number in range(1000):
                socket.write(b"%d" % number)

        channel = api("return", listener)
        socket = channel.connect()
        socket.write(b"go")
        assert await collect(socket) == [b"%d" % number for number in range(1000)]
        assert await socket.read() == b""
        assert socket.at_end
        assert channel.state == "closed"

    async def test_the_client_does_not_come_back_after_the_listener_returned(self, api: Api):
        clients: list[Any] = []

        async def listener(socket: Any) -> None:
            clients.append(socket.peer.member)
            if len(clients) == 1:
                await echo(socket)  # the host's own, so that the host lives on

        await api("twice", listener).connect().wait_connected()
        channel = api("twice")
        socket = channel.connect()
        assert await socket.read() == b""
        assert channel.state == "closed"
        another = api("twice").connect()
        assert await another.read() == b""
        assert len(clients) == len(set(clients)) == 3
        with pytest.raises(ChannelClosed, match="listener"):
            socket.write(b"more")

    @pytest.mark.parametrize("how", ["close", "destroy"])
    async def test_the_listener_can_end_it(self, api: Api, how: str):
        async def listener(socket: Any) -> None:
            socket.write(b"last words")
            if how == "close":
                await socket.close()
            else:
                socket.destroy()
            with pytest.raises(ChannelClosed):
                socket.write(b"more")

        channel = api("end", listener)
        socket = channel.connect()
        messages = await collect(socket)
        assert messages == [b"last words"]
        assert channel.state == "closed"

    async def test_the_listener_reads_to_the_end_when_the_client_closes(self, api: Api):
        received: list[bytes] = []
        over: list[bool] = []

        async def listener(socket: Any) -> None:
            received.extend(await collect(socket))
            over.append(socket.at_end)

        api("reads", listener).connect()
        socket = api("reads").connect()
        for number in range(100):
            socket.write(b"%d" % number)
        await socket.close()  # all was heard then, but for the end, at which this listener notes it
        await eventually(lambda: over == [True])
        assert received == [b"%d" % number for number in range(100)]

    async def test_close_delivers_a_large_backlog(self, api: Api):
        sizes: list[int] = []

        async def listener(socket: Any) -> None:
            sizes.extend([len(message) async for message in socket])

        api("backlog", listener).connect()
        socket = api("backlog").connect()
        for _ in range(60):
            socket.write(bytes(200 * KIB))
        await socket.close(timeout=20)
        assert sizes == [200 * KIB] * 60

    async def test_destroy_closes_channel_and_socket(self, api: Api):
        channel = api("destroy", echo)
        socket = channel.connect()
        await socket.wait_connected()
        socket.destroy()
        assert channel.state == "closed"
        assert await socket.read() == b""
        assert socket.at_end

    @pytest.mark.parametrize("first", ["close", "destroy"])
    @pytest.mark.parametrize("second", ["close", "destroy"])
    async def test_ending_it_twice_is_harmless(self, api: Api, first: str, second: str):
        channel = api("twice", echo)
        socket = channel.connect()
        await socket.wait_connected()
        for how in (first, second):
            if how == "close":
                await socket.close()
            else:
                socket.destroy()
        await channel.close()
        assert channel.state == "closed"

    async def test_a_channel_can_be_closed_before_it_connects(self, api: Api):
        channel = api("never", echo)
        await channel.close()
        assert channel.state == "closed"
        with pytest.raises(ChannelClosed):
            channel.connect()

    async def test_closing_what_never_connected_is_quick(self, api: Api):
        channel = api("nobody")
        socket = channel.connect(timeout=None)
        before = time.monotonic()
        await socket.close()
        assert time.monotonic() - before < 1
        assert channel.state == "closed"

    async def test_use_after_close(self, api: Api):
        channel = api("after", echo)
        socket = channel.connect()
        await socket.wait_connected()
        await socket.close()
        assert await socket.read() == b""
        assert await collect(socket) == []
        for use in (socket.drain, socket.wait_connected):
            with pytest.raises(ChannelClosed):
                await use()
        with pytest.raises(ChannelClosed) as caught:
            socket.write(b"more")
        assert caught.value.name == "after"
        assert caught.value.reason == "closed by this side"
        with pytest.raises(ChannelClosed):
            channel.connect()

    async def test_what_arrived_before_the_close_can_be_read_after_it(self, api: Api):
        async def listener(socket: Any) -> None:
            socket.write(b"a")
            socket.write(b"b")
            await echo(socket)

        socket = api("arrived", listener).connect()
        assert await socket.read() == b"a"
        await socket.close()
        assert await socket.read() == b"b"
        assert await socket.read() == b""

    async def test_closing_ends_a_read_that_waits(self, api: Api):
        socket = api("waits", echo).connect()
        await socket.wait_connected()
        reading = asyncio.ensure_future(socket.read())
        socket.write(b"read this")
        assert await reading == b"read this"
        reading = asyncio.ensure_future(socket.read())
        await asyncio.sleep(0)
        await socket.close()
        assert await reading == b""

    async def test_destroying_ends_a_wait_for_a_connection(self, api: Api):
        socket = api("nobody").connect(timeout=None)
        waiting = asyncio.ensure_future(socket.wait_connected())
        await asyncio.sleep(0)
        socket.destroy()
        with pytest.raises(ChannelClosed):
            await waiting

    async def test_a_block_waits_for_the_connection_and_closes(self, api: Api):
        channel = api("block", echo)
        async with channel.connect() as socket:
            assert channel.connected
            socket.write(b"x")
        assert channel.state == "closed"

    async def test_a_block_that_fails_destroys(self, api: Api):
        channel = api("block", echo)
        with pytest.raises(LookupError):
            async with channel.connect():
                raise LookupError
        assert channel.state == "closed"


class Unheard(BaseException):
    """No Exception, as test frameworks raise them."""


class Listeners:
    @pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, Unheard])
    async def test_whatever_one_raises_its_client_hears_the_end(
        self, api: Api, kind: type[BaseException], caplog: pytest.LogCaptureFixture
    ):
        async def listener(socket: Any) -> None:
            async for _ in socket:
                raise kind

        api("raises", listener).connect()
        client = api("raises").connect()
        client.write(b"1")
        assert await collect(client) == []
        assert kind.__name__ in caplog.text

    async def test_one_that_raises_ends_its_connection_alone(
        self, api: Api, caplog: pytest.LogCaptureFixture
    ):
        async def listener(socket: Any) -> None:
            async for message in socket:
                if message == b"fail":
                    socket.write(b"before")
                    raise LookupError("the listener's own")
                socket.write(message)

        api("raises", listener).connect()
        good, bad = api("raises").connect(), api("raises").connect()
        good.write(b"1")
        assert await good.read() == b"1"
        bad.write(b"fail")
        assert await collect(bad) == [b"before"]
        good.write(b"2")
        assert await good.read() == b"2"
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert [record.name for record in errors] == ["open_channel"]
        assert "raises" in errors[0].getMessage()
        assert errors[0].exc_info is not None
        assert isinstance(errors[0].exc_info[1], LookupError)
