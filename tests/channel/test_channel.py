"""The channel on asyncio: its states, its directory, its names."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from pathlib import Path

import pytest

from open_channel import Channel, ConnectTimeout, NameInvalid, open_channel, sync
from tests.channel.steps import DEADLINE, Opener, echo, eventually


async def test_the_states_of_a_life(opened: Opener):
    channel = opened("states")
    assert (channel.state, channel.connected) == ("initiated", False)
    socket = channel.connect()
    assert (channel.state, channel.connected) == ("connecting", False)
    await opened.connected("states", echo)
    await socket.wait_connected()
    assert (channel.state, channel.connected) == ("connected", True)
    await channel.close()
    assert (channel.state, channel.connected) == ("closed", False)


async def test_nothing_is_done_before_the_loop_goes_on(opened: Opener, channel_dir: Path):
    channel = opened("lazy", echo)
    channel.connect()
    assert channel.state == "connecting"
    assert os.listdir(channel_dir) == []


async def test_a_channel_destroyed_in_the_turn_it_connects_leaves_no_host(
    opened: Opener, channel_dir: Path
):
    channel = opened("brief", echo)
    channel.connect().destroy()
    assert channel.state == "closed"
    await channel.close()
    assert os.listdir(channel_dir) == []


async def test_connect_outside_of_an_event_loop_is_refused(channel_dir: Path):
    def connect() -> None:
        channel = open_channel("no loop", echo)
        with pytest.raises(RuntimeError, match="event loop"):
            channel.connect()
        assert channel.state == "initiated"

    await asyncio.to_thread(connect)
    assert os.listdir(channel_dir) == []


async def test_a_timeout_does_not_count_while_the_loop_is_blocked(
    opened: Opener, channel_dir: Path
):
    host = sync.open_channel("blocked", list)  # in a thread of its own
    host.connect().wait_connected(DEADLINE)
    socket = opened("blocked").connect(timeout=0.2)
    time.sleep(1)
    await socket.wait_connected()
    await asyncio.to_thread(host.close)


async def test_a_timeout_passes_after_the_loop_was_blocked(opened: Opener):
    socket = opened("nobody").connect(timeout=0.2)
    time.sleep(1)
    with pytest.raises(ConnectTimeout):
        await asyncio.wait_for(socket.wait_connected(), DEADLINE)


@pytest.mark.parametrize("kind", [Channel, sync.Channel])
def test_the_timeout_is_five_seconds_by_default(kind: type[Channel] | type[sync.Channel]):
    assert inspect.signature(kind.connect).parameters["timeout"].default == 5.0


async def test_the_given_directory_goes_before_that_of_the_environment(
    opened: Opener, channel_dir: Path
):
    other = channel_dir / "other"
    await opened.connected("where", echo, directory=other)
    assert os.listdir(channel_dir) == ["other"]
    assert other.stat().st_mode & 0o777 == 0o700
    _, socket = await opened.connected("where", directory=str(other))
    socket.write(b"hello")
    assert await socket.read() == b"hello"


async def test_closing_leaves_no_socket_and_no_presence(opened: Opener, channel_dir: Path):
    host, _ = await opened.connected("tidy", echo)
    client, _ = await opened.connected("tidy")
    await client.close()
    await host.close()
    left = os.listdir(channel_dir)
    assert len(left) == 1, left  # the lock file: another may hold it by now


async def test_two_channels_of_one_name_in_one_process_are_two_members(opened: Opener):
    members: set[str] = set()

    async def listener(socket):
        members.add(socket.peer.member)
        await echo(socket)

    first, _ = await opened.connected("two", listener)
    second, _ = await opened.connected("two", listener)
    await eventually(lambda: len(members) == 2)
    assert first.peer == second.peer
    assert first.peer.member in members


async def test_names_and_states_are_shown(opened: Opener):
    channel = opened("shown", echo)
    assert repr(channel) == "<Channel 'shown' initiated>"
    socket = channel.connect()
    assert "shown" in repr(socket)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_names_of_every_length_serve(opened: Opener):
    lengths = [*range(1, 301), 4095, 4096]
    for length in lengths:
        host, own = await opened.connected("n" * length, echo)
        own.write(b"%d" % length)
        assert await own.read() == b"%d" % length
        await host.close()
    for size in (4097, 10_000):
        with pytest.raises(NameInvalid, match=str(size)):
            open_channel("n" * size)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_limit_of_a_name_counts_its_bytes(opened: Opener):
    await opened.connected("ü" * 2048, echo)
    with pytest.raises(NameInvalid, match="4098"):
        open_channel("ü" * 2049)


both = pytest.mark.parametrize("api", [open_channel, sync.open_channel], ids=["asyncio", "sync"])


@both
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limits": 5}, TypeError),
        ({"limits": 0}, TypeError),
        ({"labels": {1: 2}}, TypeError),
        ({"labels": {"a": 1}}, TypeError),
        ({"labels": {"host": "caf\udce9"}}, ValueError),
        ({"labels": {"role": "x" * 9000}}, ValueError),
        ({"directory": ""}, ValueError),
        ({"directory": 5}, TypeError),
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused_at_once(api, options, error):
    with pytest.raises(error):
        api("wrong", **options)


def generates(socket):
    yield socket


async def generates_too(socket):
    yield socket


@both
@pytest.mark.parametrize("listener", [generates, generates_too])
def test_a_generator_function_is_no_listener(api, listener):
    for arguments in ((listener,), ("wrong", listener)):
        with pytest.raises(TypeError, match="generator"):
            api(*arguments)


def test_a_coroutine_function_is_no_listener_of_the_blocking_api():
    for arguments in ((echo,), ("wrong", echo)):
        with pytest.raises(TypeError, match="plain function"):
            sync.open_channel(*arguments)


async def test_a_directory_in_bytes_is_the_same_one(channel_dir, opened: Opener):
    await opened.connected("bytes", echo, directory=str(channel_dir))
    channel, _ = await opened.connected("bytes", directory=os.fsencode(channel_dir))
    assert not channel.hosting


async def test_labels_are_those_at_the_opening(opened: Opener):
    labels = {"a": "b"}
    channel = opened("labels", labels=labels)
    labels["a"] = "changed later"
    async with channel:
        assert [member.labels for member in channel.members] == [{"a": "b"}]


async def test_a_close_with_a_timeout_below_zero_closes_nothing(opened: Opener):
    channel, socket = await opened.connected("open", echo)
    for close in (channel.close, socket.close):
        with pytest.raises(ValueError, match="timeout"):
            await close(timeout=-1)
    socket.write(b"still open")
    assert await socket.read() == b"still open"


def test_a_name_that_has_no_utf8_is_refused():
    with pytest.raises(NameInvalid):
        open_channel("\ud800")
