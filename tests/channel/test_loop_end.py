"""An event loop that ends under an open channel: others take over at once, and lose nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from open_channel import ChannelClosed, Limits
from tests.channel.programs import Program, Programs
from tests.channel.steps import Opener, echo, eventually

# Hosts "end" until it reads a line, which says how its loop ends: then it lives on without one. The
# listener holds on for ever to a message that says what it does when it is cancelled.
HOST = """
    import asyncio, os, signal, sys, threading
    from open_channel import ChannelError, open_channel

    # A shell that starts jobs in the background has them ignore the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    async def listener(socket):
        async for message in socket:
            if message.startswith(b"hold"):
                print("holds", socket.redelivered, flush=True)
                await hold(socket, message)
            socket.write(b"%d %s" % (os.getpid(), message) + b" again" * socket.redelivered)

    async def hold(socket, message):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if message == b"hold, swallow":
                return
            if message == b"hold, destroy":
                socket.destroy()
            if message == b"hold, close":
                await socket.close()
            raise
        finally:
            socket.write(b"cut short")

    channel = open_channel("end", listener)

    async def main():
        socket = channel.connect()
        if "at once" in sys.argv:
            return
        await socket.wait_connected()
        print("hosts" if channel.hosting else "waits", flush=True)
        how = await asyncio.to_thread(sys.stdin.readline)
        if how == "destroy\\n":
            socket.destroy()
        elif how == "close\\n":
            closing = asyncio.create_task(channel.close())
            await asyncio.sleep(0)

    async def again():
        channel.connect()

    if "uvloop" in sys.argv:
        import uvloop as asyncio_or_uvloop
    else:
        asyncio_or_uvloop = asyncio
    if "never cancelled" in sys.argv:
        import warnings
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio_or_uvloop.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    else:
        with asyncio.Runner(loop_factory=asyncio_or_uvloop.new_event_loop) as runner:
            runner.run(main())
    print("lives", channel.state, channel.hosting, flush=True)
    try:
        asyncio.run(again())
    except ChannelError as error:
        print(error, flush=True)
    sys.stdin.readline()
    print(*(thread.name for thread in threading.enumerate()), flush=True)
"""


def flavour() -> str:
    """The programs run on the event loop that the test runs on."""
    uses_uvloop = type(asyncio.get_running_loop()).__module__.startswith("uvloop")
    return "uvloop" if uses_uvloop else "asyncio"


async def host(run: Programs, expected: str, *arguments: str) -> Program:
    program = run(HOST, flavour(), *arguments)
    assert await program.next_line() == expected
    return program


async def stream(channel, socket, second: Program, end) -> None:
    """Write and read numbers through the end of a host: none is lost, and none unmarked twice.

    ``end()`` ends it, in the middle; ``second`` is the next.
    """
    handled: list[tuple[int, bool]] = []
    seen: set[int] = set()
    written = after = 0
    while len(seen) < written or after < 500:
        while after < 500 and written < len(seen) + 300:
            socket.write(b"%d" % written)
            written += 1
        pid, number, *again = (await socket.read()).split()
        handled.append((int(number), bool(again)))
        seen.add(int(number))
        after += int(pid) == second.pid
        if len(handled) == 1000:
            end()
    assert channel.state == "connected"
    assert channel.peer.pid == second.pid
    known: set[int] = set()
    for number, again in handled:
        assert number not in known or again, "handled twice and not marked"
        known.add(number)
    assert known == set(range(written))


async def test_ctrl_c_at_the_host_while_a_client_writes(run: Programs, opened: Opener):
    first, second = await host(run, "hosts"), await host(run, "waits")
    channel, socket = await opened.connected("end")
    await stream(channel, socket, second, lambda: first.signal(signal.SIGINT))
    first.send("")  # asyncio.run() waits for the thread that reads
    assert await asyncio.to_thread(first.wait_end) == -signal.SIGINT
    assert first.errors().strip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in first.errors()


@pytest.mark.parametrize("how", ["return", "destroy", "close"])
async def test_main_returns_and_the_process_lives_on(
    run: Programs, opened: Opener, channel_dir: Path, how: str
):
    first, second = await host(run, "hosts"), await host(run, "waits")
    channel, socket = await opened.connected("end")
    await stream(channel, socket, second, lambda: first.send(how))
    assert await first.next_line() == "lives closed False"
    assert (await first.next_line()).startswith("channel 'end' is closed: ")
    # Two members and the other hosting; nothing is left of the first.
    kinds = sorted(path.name.split(".", 1)[1][:2] for path in channel_dir.iterdir())
    assert kinds == ["l", "l.", "m.", "m."]
    first.send("end")
    threads = await first.next_line()
    assert "open-channel-pulse" not in threads
    assert first.wait_end() == 0
    assert first.errors() == ""


async def test_a_client_is_not_told_of_an_end(run: Programs, opened: Opener):
    """Neither the message in hand, nor what a cancelled listener says of it, counts."""
    first, second = await host(run, "hosts"), await host(run, "waits")
    ways = (b"hold", b"hold, swallow", b"hold, destroy", b"hold, close")
    clients = {text: await opened.connected("end") for text in ways}
    for text, (_, socket) in clients.items():
        socket.write(text)
        assert await first.next_line() == "holds False"
    first.send("return")
    for _ in clients:
        assert await second.next_line() == "holds True"
    for channel, _ in clients.values():
        assert channel.state == "connected"
        assert channel.peer.pid == second.pid


async def test_a_close_that_is_cut_short_leaves_the_message_in_hand_to_the_next(
    run: Programs, opened: Opener
):
    first, second = await host(run, "hosts"), await host(run, "waits")
    channel, socket = await opened.connected("end")
    socket.write(b"hold")
    assert await first.next_line() == "holds False"
    first.send("close")  # it would wait for what is in hand, but its loop does not
    assert await second.next_line() == "holds True"
    assert channel.peer.pid == second.pid


async def test_a_loop_that_ends_at_once(run: Programs, channel_dir: Path):
    program = run(HOST, flavour(), "at once")
    assert await program.next_line() == "lives closed False"
    assert await program.next_line() == "channel 'end' is closed: its event loop has ended"
    assert [path.suffix for path in channel_dir.iterdir()] in ([], [".l"])
    assert program.errors() == ""


async def test_tasks_that_are_cancelled_before_they_begin(opened: Opener):
    """``destroy()`` leaves in a task too, and whoever hosts must still let go."""
    mine = asyncio.current_task()
    channel, socket = await opened.connected("end", echo)
    never = opened("end", echo)
    waiting = never.connect()
    socket.destroy()
    for task in asyncio.all_tasks():
        if task is not mine and task.get_coro().__name__ in {"_run", "_leave"}:
            task.cancel()
    with pytest.raises(ChannelClosed, match="its event loop has ended"):
        await waiting.wait_connected()
    await eventually(lambda: not channel.hosting)
    _, other = await opened.connected("end", echo)
    other.write(b"hello")
    assert await other.read() == b"hello"


async def test_a_loop_that_is_closed_and_never_cancelled(run: Programs, opened: Opener):
    """Nobody can act at that moment, but the pulse stops by itself, and takes the rest along."""
    first, second = await host(run, "hosts", "never cancelled"), await host(run, "waits")
    channel, socket = await opened.connected("end", limits=Limits(timeout=30.0))
    socket.write(b"one")
    assert await socket.read() == b"%d one" % first.pid
    first.send("return")
    assert (await first.next_line()).startswith("lives ")
    socket.write(b"two")
    # Well before the timeout: its pulse's thread also ends the connections.
    answer = await asyncio.wait_for(socket.read(), 15)
    assert answer.removesuffix(b" again") == b"%d two" % second.pid
    assert channel.peer.pid == second.pid
    assert "its event loop was closed" in first.errors()


async def test_the_broker_moves_on_when_its_members_loop_ends(run: Programs, opened: Opener):
    first = run(
        """
        import asyncio, sys
        from open_channel import open_channel

        async def main():
            channel = open_channel("bus")
            await channel.__aenter__()
            while not channel.members:
                await asyncio.sleep(0.001)
            print(*channel.members[0].hosting, flush=True)
            await asyncio.to_thread(sys.stdin.readline)

        asyncio.run(main())
        print("lives", flush=True)
        sys.stdin.readline()
        """
    )
    assert await first.next_line() == "broker"
    count = 300
    async with opened("bus") as publisher, opened("bus") as subscriber:
        async with subscriber.subscribe("numbers", type=int) as numbers:
            for number in range(count):
                await publisher.publish("numbers", number)
                if number == count // 3:
                    first.send("return")
                    assert await first.next_line() == "lives"
            await publisher.flush()
            received = [(await numbers.get()).data for _ in range(count)]
        assert received == list(range(count))
        await eventually(lambda: {member.pid for member in publisher.members} == {os.getpid()})
    first.send("end")
    assert await asyncio.to_thread(first.wait_end) == 0
    assert first.errors() == ""
