"""A channel of the asyncio API in another thread than its event loop's: nothing is done there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from open_channel import Channel, ChannelClosed, ChannelSocket, ForeignThread, open_channel
from tests.channel.steps import eventually


async def in_a_thread(do: Callable[[], Any]) -> Any:
    """What it returns or raises in a thread that has an event loop of its own."""

    async def awaited() -> Any:
        result = do()
        return await result if asyncio.iscoroutine(result) else result

    return await asyncio.to_thread(lambda: asyncio.run(awaited()))


async def enter(block: Any) -> None:
    async with block:
        raise AssertionError


pytestmark = pytest.mark.usefixtures("channel_dir")

USES: dict[str, Callable[[Channel], Any]] = {
    "publish": lambda channel: channel.publish("news", b"foreign"),
    "publish_nowait": lambda channel: channel.publish_nowait("news", b"foreign"),
    "confirm": lambda channel: channel.publish("news", b"foreign", confirm=True),
    "flush": lambda channel: channel.flush(),
    "request": lambda channel: channel.request("ask", b"foreign"),
    "request_all": lambda channel: channel.request_all("ask", b"foreign"),
    "subscribe": lambda channel: enter(channel.subscribe("news")),
    "serve": lambda channel: enter(channel.serve("ask", lambda _: b"")),
    "enter": enter,
    "close": lambda channel: channel.close(),
}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
async def test_the_bus_is_refused(use: Callable[[Channel], Any]):
    asked: list[bytes] = []
    async with (
        open_channel("foreign") as channel,
        channel.subscribe("news") as news,
        channel.serve("ask", lambda message: asked.append(message.body)),
    ):
        await channel.publish("news", b"1")
        assert (await news.get()).body == b"1"
        await channel.flush()
        with pytest.raises(
            ForeignThread, match=r"'MainThread'.*run_coroutine_threadsafe"
        ) as caught:
            await in_a_thread(lambda: use(channel))
        assert caught.value.owner == threading.current_thread().name
        assert caught.value.thread != caught.value.owner

        assert len(channel.members) == 1
        await channel.publish("news", b"2", confirm=True)
        await channel.request("ask", b"2")
        assert (await news.get()).body == b"2"
        assert asked == [b"2"]


async def test_what_is_only_read_is_not_refused():
    async with open_channel("foreign") as channel:
        members, stats, state, member = await in_a_thread(
            lambda: (channel.members, channel.stats(), channel.state, channel.member)
        )
        assert [one.id for one in members] == [member]
        assert (stats.members, state) == (1, "connected")


async def test_a_closed_channel_is_closed_in_any_thread():
    async with open_channel("foreign") as channel:
        pass
    for name in USES.keys() - {"close"}:
        use = USES[name]
        with pytest.raises(ChannelClosed):
            await in_a_thread(lambda use=use: use(channel))  # type: ignore[misc]


async def test_run_coroutine_threadsafe_is_the_way():
    loop = asyncio.get_running_loop()
    async with open_channel("foreign") as channel, channel.subscribe("news") as news:

        def other_thread() -> None:
            publishing = channel.publish("news", b"from a thread")
            asyncio.run_coroutine_threadsafe(publishing, loop).result(10)

        await asyncio.to_thread(other_thread)
        assert (await news.get()).body == b"from a thread"


async def test_a_socket_is_refused_on_both_sides():
    heard: list[bytes] = []
    sockets: list[ChannelSocket] = []

    async def listener(socket: ChannelSocket) -> None:
        sockets.append(socket)
        async for message in socket:
            heard.append(message)

    channel = open_channel("foreign", listener)
    async with channel.connect() as client:
        client.write(b"1")
        await eventually(lambda: heard == [b"1"])
        for socket in (client, *sockets):
            for use in (partial(socket.write, b"foreign"), socket.read):
                with pytest.raises(ForeignThread):
                    await in_a_thread(use)
        client.write(b"2")
        await eventually(lambda: heard == [b"1", b"2"])
    await channel.close()
