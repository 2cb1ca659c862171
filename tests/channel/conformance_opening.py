"""How every API must open and connect: run against asyncio, uvloop and the blocking API.

A subclass is run by pytest; the fixture ``api`` opens channels whose methods are those of the
asyncio API, whatever is behind them.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from open_channel import ConnectTimeout, NameInvalid
from tests.channel.steps import echo, eventually

Api = Callable[..., Any]

KIB = 1024
MIB = 1024 * KIB


async def collect(socket: Any) -> list[bytes]:
    return [message async for message in socket]


class Opening:
    """From ``open_channel()`` to the connection."""

    async def test_nothing_happens_before_connect(self, api: Api, channel_dir: Path):
        channel = api("quiet", echo)
        assert channel.state == "initiated"
        assert not channel.connected
        assert not channel.hosting
        assert channel.peer is None
        assert os.listdir(channel_dir) == []

    async def test_connect_returns_at_once(self, api: Api):
        before = time.monotonic()
        api("nobody").connect(timeout=None)
        assert time.monotonic() - before < 1

    async def test_it_connects_to_itself_when_nobody_hosts(self, api: Api):
        channel = api("self", echo)
        socket = channel.connect()
        await socket.wait_connected()
        assert channel.state == "connected"
        assert channel.connected
        assert channel.hosting

    async def test_connect_again_gives_the_same_socket(self, api: Api):
        channel = api("again", echo)
        socket = channel.connect()
        assert channel.connect() is socket
        await socket.wait_connected()
        assert channel.connect(timeout=0) is socket

    async def test_what_is_written_before_the_connection_arrives_in_order(self, api: Api):
        socket = api("early", echo).connect()
        for number in range(100):
            socket.write(b"%d" % number)
        assert [await socket.read() for _ in range(100)] == [b"%d" % n for n in range(100)]

    async def test_the_default_name(self, api: Api):
        assert api().name == "open-channel"
        assert api(echo).name == "open-channel"
        assert api("chat").name == "chat"

    async def test_a_listener_alone_opens_the_default_name(self, api: Api):
        api(echo).connect()
        socket = api().connect()
        socket.write(b"hello")
        assert await socket.read() == b"hello"

    async def test_channels_of_several_names_do_not_mix(self, api: Api):
        def named(name: bytes) -> Any:
            async def listener(socket: Any) -> None:
                async for message in socket:
                    socket.write(name + message)

            return listener

        sockets = {name: api(name, named(name.encode())).connect() for name in ("a", "b", "A")}
        for socket in sockets.values():
            socket.write(b"?")
        for name, socket in sockets.items():
            assert await socket.read() == name.encode() + b"?"

    async def test_the_listener_can_talk_first(self, api: Api):
        async def greet(socket: Any) -> None:
            socket.write(b"welcome")
            assert await socket.read() == b"thanks"
            socket.write(b"bye")

        socket = api("greet", greet).connect()
        assert await socket.read() == b"welcome"
        socket.write(b"thanks")
        assert await socket.read() == b"bye"
        assert await socket.read() == b""

    async def test_many_clients_each_have_a_conversation(self, api: Api):
        api("many", echo).connect()
        sockets = [api("many").connect() for _ in range(20)]
        for number, socket in enumerate(sockets):
            socket.write(b"%d" % number)
        for number, socket in enumerate(sockets):
            assert await socket.read() == b"%d" % number

    async def test_each_side_knows_the_other(self, api: Api):
        peers: list[Any] = []

        async def listener(socket: Any) -> None:
            peers.append(socket.peer)
            await echo(socket)

        host = api("peer", listener)
        own = host.connect()
        await own.wait_connected()
        client = api("peer")
        socket = client.connect()
        assert socket.peer is None or client.connected
        await socket.wait_connected()
        await eventually(lambda: len(peers) == 2)
        for peer in (*peers, own.peer, socket.peer, client.peer):
            assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
            assert re.fullmatch("[0-9a-f]{32}", peer.member)
        # The host is connected to itself, so it meets its own id; the client's is another.
        assert own.peer == socket.peer == client.peer
        assert own.peer in peers
        assert peers[0].member != peers[1].member

    async def test_wait_connected_on_the_listener_side_returns_at_once(self, api: Api):
        async def listener(socket: Any) -> None:
            await socket.wait_connected()
            socket.write(b"it did")

        assert await api("side", listener).connect().read() == b"it did"


class Timeouts:
    """What ``connect(timeout)`` promises."""

    async def test_alone_without_a_listener_it_gives_up_in_time(self, api: Api):
        channel = api("nobody")
        before = time.monotonic()
        socket = channel.connect(timeout=0.2)
        with pytest.raises(ConnectTimeout) as caught:
            await socket.wait_connected()
        assert 0.19 <= time.monotonic() - before < 3
        assert caught.value.name == "nobody"
        assert caught.value.timeout == 0.2
        assert caught.value.last == "nobody hosts it"
        assert channel.state == "closed"

    async def test_every_later_use_raises_the_same_error(self, api: Api):
        socket = api("nobody").connect(timeout=0.05)
        with pytest.raises(ConnectTimeout) as read:
            await socket.read()
        for use in (socket.read, socket.drain, socket.wait_connected):
            with pytest.raises(ConnectTimeout) as later:
                await use()
            assert str(later.value) == str(read.value)
        with pytest.raises(ConnectTimeout):
            socket.write(b"too late")
        await socket.close()

    async def test_a_timeout_of_zero_passes_at_once(self, api: Api):
        with pytest.raises(ConnectTimeout):
            await api("nobody").connect(timeout=0).wait_connected()

    async def test_without_a_timeout_it_waits_for_a_host(self, api: Api):
        socket = api("late").connect(timeout=None)
        socket.write(b"hello")
        api("late", echo).connect()
        assert await socket.read() == b"hello"

    async def test_an_infinite_timeout_waits_for_a_host(self, api: Api):
        socket = api("late").connect(timeout=math.inf)
        socket.write(b"hello")
        api("late", echo).connect()
        assert await socket.read() == b"hello"

    @pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan])
    async def test_a_timeout_below_zero_is_refused(self, api: Api, timeout: float):
        channel = api("wrong", echo)
        with pytest.raises(ValueError, match="timeout"):
            channel.connect(timeout=timeout)
        assert channel.state == "initiated"
        socket = channel.connect()
        await socket.wait_connected()

    async def test_the_timeout_ends_with_the_first_connection(self, api: Api):
        api("brief", echo).connect()
        channel = api("brief")
        socket = channel.connect(timeout=1)
        await socket.wait_connected()
        deadline = time.monotonic() + 1.1
        while time.monotonic() < deadline:
            socket.write(b"still here?")
            assert await socket.read() == b"still here?"
        assert channel.connected


class Names:
    @pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\x7f", "x" * 4097, "ü" * 2049])
    async def test_a_name_that_cannot_be_used_is_refused(self, api: Api, name: str):
        with pytest.raises(NameInvalid) as caught:
            api(name, echo)
        assert caught.value.name == name
        assert caught.value.reason

    @pytest.mark.parametrize("name", [b"bytes", 7, None])
    async def test_a_name_that_is_no_string_is_refused(self, api: Api, name: object):
        with pytest.raises(NameInvalid):
            api(name, echo)

    @pytest.mark.parametrize("name", ["ü", "日本語", "a b/../c", "🦀", "x" * 4096])
    async def test_a_strange_name_serves(self, api: Api, name: str):
        api(name, echo).connect()
        socket = api(name).connect()
        socket.write(b"hello")
        assert await socket.read() == b"hello"

    async def test_a_listener_that_cannot_be_called_is_refused(self, api: Api):
        with pytest.raises(TypeError, match="listener"):
            api("chat", "no function")
