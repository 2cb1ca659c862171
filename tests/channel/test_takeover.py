"""Hosts that are killed: what was not acknowledged goes to the next one, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from open_channel import Limits
from tests.channel.programs import Program, Programs
from tests.channel.steps import Opener, eventually

# Hosts "take" and answers each message with itself and whether it was redelivered, but holds on
# for ever to one that says so. It leaves in order when it reads a line.
HOST = """
    import asyncio, sys
    from open_channel import open_channel

    async def listener(socket):
        async for message in socket:
            if message == b"hold":
                print("holds", socket.redelivered, flush=True)
                await asyncio.Event().wait()
            socket.write(message + b" again" * socket.redelivered)

    async def main():
        channel = open_channel("take", listener)
        await channel.connect().wait_connected()
        print("hosts" if channel.hosting else "waits", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await channel.close()
        print("left", flush=True)

    asyncio.run(main())
"""


async def host(run: Programs, expected: str) -> Program:
    program = run(HOST)
    assert await program.next_line() == expected
    return program


async def test_a_client_without_a_listener_reaches_a_host_in_another_process(
    run: Programs, opened: Opener
):
    program = await host(run, "hosts")
    channel, socket = await opened.connected("take")
    assert not channel.hosting
    assert socket.peer.pid == program.pid
    assert socket.peer.uid == os.geteuid()
    assert socket.peer.member == channel.peer.member
    socket.write(b"hello")
    assert await socket.read() == b"hello"


async def test_the_message_in_hand_goes_to_the_next_host_marked(run: Programs, opened: Opener):
    first = await host(run, "hosts")
    second = await host(run, "waits")
    channel, socket = await opened.connected("take")
    socket.write(b"before")
    assert await socket.read() == b"before"
    socket.write(b"hold")
    assert await first.next_line() == "holds False"
    first.kill()
    assert await second.next_line() == "holds True"
    assert channel.peer.pid == second.pid


async def test_what_never_left_is_not_marked(run: Programs, opened: Opener):
    async def answer(socket):
        async for message in socket:
            socket.write(b"%d again=%d" % (len(message), socket.redelivered))

    first = await host(run, "hosts")
    await opened.connected("take", answer)
    channel, socket = await opened.connected("take", limits=Limits(window=1024))
    socket.write(b"hold")
    assert await first.next_line() == "holds False"
    socket.write(bytes(300))
    await asyncio.sleep(0)
    socket.write(bytes(2000))  # more than the window: it waits for the first to be acknowledged
    await asyncio.sleep(0)
    first.kill()
    assert await socket.read() == b"4 again=1"
    assert await socket.read() == b"300 again=1"
    assert await socket.read() == b"2000 again=0"
    socket.write(b"new")
    assert await socket.read() == b"3 again=0"
    assert channel.peer.pid == os.getpid()


async def test_a_numbered_stream_survives_several_kills(run: Programs, opened: Opener):
    count, kills = 6000, 4
    programs = {program.pid: program for program in [await host(run, "hosts")]}
    for _ in range(kills):
        program = await host(run, "waits")
        programs[program.pid] = program
    channel, socket = await opened.connected("take")
    answers: list[tuple[int, bool]] = []
    written = killed = 0
    while len(dict(answers)) < count:
        while written < count and written < len(answers) + 500:
            socket.write(b"%d" % written)
            written += 1
        answer = await socket.read()
        answers.append((int(answer.removesuffix(b" again")), answer.endswith(b" again")))
        if killed < kills and len(answers) >= (killed + 1) * count // (kills + 1):
            programs[channel.peer.pid].kill()
            killed += 1
    assert killed == kills
    first: dict[int, bool] = {}
    for number, again in answers:
        assert number not in first or again, "handled twice and not marked"
        first.setdefault(number, again)
    assert list(first) == list(range(count))


async def test_the_member_itself_takes_over_from_a_killed_host(run: Programs, opened: Opener):
    async def listener(socket):
        async for message in socket:
            socket.write(message + b" again" * socket.redelivered)

    first = await host(run, "hosts")
    channel, socket = await opened.connected("take", listener)
    assert not channel.hosting
    socket.write(b"hold")
    assert await first.next_line() == "holds False"
    first.kill()
    assert await socket.read() == b"hold again"
    assert channel.hosting
    assert channel.peer.pid == os.getpid()


async def test_an_orderly_leave_in_another_process_loses_nothing(run: Programs, opened: Opener):
    first = await host(run, "hosts")
    second = await host(run, "waits")
    channel, socket = await opened.connected("take")
    count = 2000
    answers: list[bytes] = []
    written = 0
    while len(answers) < count:
        while written < count and written < len(answers) + 100:
            socket.write(b"%d" % written)
            written += 1
        answers.append(await socket.read())
        if len(answers) == count // 2:
            first.send("leave")
    assert [int(answer.removesuffix(b" again")) for answer in answers] == list(range(count))
    assert channel.peer.pid == second.pid
    assert await first.next_line() == "left"
    assert first.wait_end() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_a_client_that_dies_ends_the_listeners_iteration(
    run: Programs, opened: Opener, number: int
):
    received: list[bytes] = []
    ended = asyncio.Event()

    async def listener(socket):
        if socket.peer.pid == os.getpid():
            await socket.read()
            return
        received.extend([message async for message in socket])
        ended.set()

    await opened.connected("dies", listener)
    client = run(
        """
        import asyncio
        from open_channel import open_channel

        async def main():
            socket = open_channel("dies").connect()
            for number in range(10):
                socket.write(b"%d" % number)
            while socket.backlog:
                await asyncio.sleep(0.001)
            print("written", flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    assert await client.next_line() == "written"
    client.signal(number)
    await eventually(ended.is_set)
    assert received == [b"%d" % number for number in range(10)]
