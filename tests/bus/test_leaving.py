"""A channel whose block is not entered, or not left, in peace; and one in a forked child."""

from __future__ import annotations

import asyncio
import os

import pytest

from open_channel import Channel, ChannelSocket, open_channel
from tests.bus.conftest import Joiner
from tests.channel.programs import Programs
from tests.channel.steps import eventually


def holds() -> tuple[int, int]:
    """How many descriptors this process has, and tasks."""
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())


async def test_entering_that_is_cancelled_leaves_nothing_behind(join: Joiner):
    shop = await join()
    before = holds()
    for _ in range(5):
        channel = open_channel("shop")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0), channel:
                raise AssertionError
        assert channel.state == "closed"
    await eventually(lambda: len(shop.members) == 1)
    await eventually(lambda: holds() == before)


async def test_leaving_that_is_cancelled_leaves_nothing_behind(join: Joiner):
    shop = await join()
    before = holds()
    async with shop.subscribe("jobs", group="g") as jobs:
        for _ in range(5):
            channel = open_channel("shop", hosts=False)
            begun = asyncio.Event()

            async def leave(channel: Channel = channel, begun: asyncio.Event = begun) -> None:
                async with channel:
                    channel.publish_nowait("jobs", b"undone")
                    begun.set()

            leaving = asyncio.create_task(leave())
            await begun.wait()
            await eventually(lambda: jobs.take() is not None)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert channel.state == "closed"
        await eventually(lambda: len(shop.members) == 1)
    await eventually(lambda: holds() == before)


async def test_a_socket_is_closed_too_where_leaving_is_cancelled(join: Joiner):
    never = asyncio.Event()

    async def listener(socket: ChannelSocket) -> None:
        async for _ in socket:
            await never.wait()

    host = open_channel("talk", listener)
    await host.connect().wait_connected()
    before = holds()
    channel = open_channel("talk", hosts=False)

    async def leave() -> None:
        async with channel:
            channel.connect().write(b"never handled")

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(leave(), 0.2)
    assert channel.state == "closed"
    await eventually(lambda: holds() == before)
    host.connect().destroy()
    await host.close(timeout=0)


@pytest.mark.parametrize("also", ["", "channel.connect()"])
async def test_a_host_that_leaves_is_not_waited_for(join: Joiner, run: Programs, also: str):
    """However long its own event loop takes to say that it has gone."""
    program = run(
        f"""
        import asyncio, sys, time
        from open_channel import open_channel

        async def echo(socket):
            async for message in socket:
                socket.write(message)

        async def work():
            while True:
                time.sleep(0.5)
                await asyncio.sleep(0)

        async def main():
            channel = open_channel("shop", echo)
            async with channel:
                {also or "pass"}
                print("hosts" if channel.hosting else "waits")
                await asyncio.to_thread(sys.stdin.readline)
                working = asyncio.create_task(work())
            working.cancel()

        asyncio.run(main())
        """
    )
    assert await asyncio.to_thread(program.line) == "hosts"
    first, second = await join(), await join()
    changes: list[tuple[str, str]] = []

    async def watch() -> None:
        async for change in first.watch_members():
            changes.append((change.kind, change.member.id))

    [gone] = [member.id for member in first.members if member.pid == program.pid]
    watching = asyncio.create_task(watch())
    async with second.subscribe("t") as messages:
        await asyncio.to_thread(program.send, "leave")
        await eventually(lambda: first.hosting or second.hosting)
        async with asyncio.timeout(2):  # a fraction of the grace
            assert await first.publish("t", b"heard by all", confirm=True) == ()
        assert (await messages.get()).body == b"heard by all"
    assert await asyncio.to_thread(program.wait_end) == 0
    await eventually(lambda: len(first.members) == 2)
    watching.cancel()
    assert [kind for kind, member in changes if member == gone] == ["left"]


async def test_who_ceases_to_serve_is_missing_among_the_replies(join: Joiner):
    shop, stays, goes = await join(), await join(), await join()
    kinds: set[object] = set()

    async def come_and_go() -> None:
        while True:
            async with goes.serve("q", lambda _: 1):
                await asyncio.sleep(0.001)

    coming = asyncio.create_task(come_and_go())
    async with stays.serve("q", lambda _: 1):
        for _ in range(300):
            kinds.update((await shop.request_all("q")).values())
    coming.cancel()
    assert kinds == {1}


def test_what_has_arrived_stays_the_parents(run: Programs):
    program = run(
        """
        import asyncio, os
        from open_channel import ChannelForked, open_channel

        async def main():
            async with (
                open_channel("shop") as shop,
                shop.subscribe("t", group="g") as jobs,
                shop.subscribe("t") as plain,
            ):
                changes = shop.watch_members()
                for number in range(3):
                    await shop.publish("t", number)
                while plain.backlog < 3:
                    await asyncio.sleep(0)
                first = (await jobs.get()).data, (await plain.get()).data
                if not os.fork():
                    asyncio.events._set_running_loop(None)
                    asyncio.run(child(jobs, plain, changes))
                    os._exit(0)
                os.wait()
                print(first, [((await jobs.get()).data, (await plain.get()).data) for _ in "ab"])

        async def child(jobs, plain, changes):
            for taking in (
                jobs.get, plain.get, lambda: anext(aiter(jobs)), plain.__anext__,
                changes.get, changes.__anext__,
            ):
                try:
                    print(await taking(), flush=True)
                except ChannelForked:
                    print("forked", flush=True)

        asyncio.run(main())
        """
    )
    assert [program.line() for _ in range(6)] == ["forked"] * 6
    assert program.line() == "(0, 0) [(1, 1), (2, 2)]"


async def test_a_channel_on_the_bus_says_how_it_is(join: Joiner):
    channel = open_channel("shop")
    assert (channel.state, channel.connected, channel.hosting) == ("initiated", False, False)
    async with channel:
        assert (channel.state, channel.connected, channel.hosting) == ("connected", True, True)
        other = await join()
        assert (other.state, other.connected, other.hosting) == ("connected", True, False)
    assert (channel.state, channel.connected, channel.hosting) == ("closed", False, False)


def test_what_was_opened_before_a_fork_and_not_used_is_the_childs(run: Programs):
    program = run(
        """
        import asyncio, os
        from open_channel import open_channel

        async def listener(socket):
            async for message in socket:
                socket.write(message)

        channel = open_channel("opened", listener)

        async def talk():
            async with channel, channel.subscribe("t") as topic:
                socket = channel.connect()
                socket.write(b"hello")
                await channel.publish("t", b"there")
                print(await socket.read(), (await topic.get()).body, flush=True)

        for _ in range(2):
            if not os.fork():
                asyncio.run(talk())
                os._exit(0)
            os.wait()
        asyncio.run(talk())
        """
    )
    assert [program.line() for _ in range(3)] == ["b'hello' b'there'"] * 3
