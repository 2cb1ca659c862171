"""Forks of a process that has opened an asyncio channel."""

from __future__ import annotations

import os

import pytest

from tests.channel.programs import C_FORK, Programs
from tests.channel.steps import Opener, echo

PARENT = """
    import asyncio, os, sys
    from open_channel import ChannelForked, open_channel

    async def echo(socket):
        async for message in socket:
            socket.write(message)

    async def wait_for(child):
        status = (await asyncio.to_thread(os.waitpid, child, 0))[1]
        assert os.waitstatus_to_exitcode(status) == 0, status

    def forked(use):
        try:
            result = use()
            if hasattr(result, "send"):
                result.send(None)  # one step: it may not wait
        except ChannelForked as error:
            assert error.name == "fork" and error.owner == os.getppid(), error
        else:
            print("no error from", use, file=sys.stderr)
            os._exit(1)

    async def main():
        channel = open_channel("fork", echo)
        socket = channel.connect()
        socket.write(b"before")
        assert await socket.read() == b"before"
        child = os.fork()
        if not child:
            BODY
            os._exit(0)
        await wait_for(child)
        assert channel.connected
        socket.write(b"after")
        assert await socket.read() == b"after"
        await channel.close()

    asyncio.run(main())
"""


@pytest.mark.parametrize(
    "use",
    [
        "channel.connect",
        "lambda: socket.write(b'child')",
        "socket.read",
        "socket.__anext__",
        "socket.drain",
        "socket.wait_connected",
    ],
)
def test_each_use_in_the_child_is_refused_and_the_parent_goes_on(run: Programs, use: str):
    program = run(PARENT.replace("BODY", f"forked({use})"))
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


@pytest.mark.parametrize("use", ["socket.destroy()", "channel.close().send(None)", "None"])
def test_the_child_may_close_what_is_not_its_own_and_the_parent_goes_on(run: Programs, use: str):
    closing = f"try: {use}\n            except (ChannelForked, StopIteration): pass"
    program = run(PARENT.replace("BODY", closing))
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_the_child_can_open_the_channel_again(run: Programs):
    program = run(
        """
        import asyncio, os
        from open_channel import open_channel

        async def echo(socket):
            async for message in socket:
                socket.write(b"%d " % os.getpid() + message)

        async def talk():
            async with open_channel("fork", echo).connect() as socket:
                socket.write(b"hello")
                print(os.getpid(), (await socket.read()).decode(), flush=True)

        async def main():
            channel = open_channel("fork", echo)
            await channel.connect().wait_connected()
            child = os.fork()
            if not child:
                asyncio.run(talk())
                os._exit(0)
            assert (await asyncio.to_thread(os.waitpid, child, 0))[1] == 0
            await talk()
            assert channel.hosting

        asyncio.run(main())
        """
    )
    assert program.wait_end() == 0, program.errors()
    child, host, _ = program.line().split()
    assert host == str(program.pid)
    assert child != host
    assert program.line() == f"{host} {host} hello"


async def test_a_child_that_lives_on_does_not_keep_its_killed_parents_place(
    run: Programs, opened: Opener
):
    program = run(
        """
        import asyncio, os, time
        from open_channel import open_channel

        async def main():
            await open_channel("orphan", lambda socket: None).connect().wait_connected()
            if not os.fork():
                print("child", flush=True)
                time.sleep(60)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    assert await program.next_line() == "child"
    channel, socket = await opened.connected("orphan", echo)
    assert socket.peer.pid == program.pid
    program.kill()
    socket.write(b"hello")
    assert await socket.read() == b"hello"
    assert channel.peer.pid == os.getpid()


def test_a_child_of_c_code_is_refused_too(run: Programs):
    """Python's hooks are not called there: it notices with its first use."""
    program = run(
        C_FORK
        + """
import asyncio
from open_channel import ChannelForked, open_channel

channel = open_channel("fork")

async def refused():
    for use in (
        channel.connect,
        channel.flush,
        lambda: channel.publish("t", b"child"),
        lambda: channel.request("t", timeout=5),
        channel.__aenter__,
        lambda: channel.lock("l").acquire(),
    ):
        try:
            await asyncio.wait_for(use(), 5)
        except ChannelForked:
            continue
        raise AssertionError(use)

async def own():
    async with open_channel("fork") as own, own.lock("own", timeout=5):
        await own.publish("t", b"child", confirm=True)

loop = asyncio.new_event_loop()
loop.run_until_complete(channel.publish("t", b"parent", confirm=True))
for does in (refused, own):
    child = fork()
    if not child:
        asyncio.run(does())
        os._exit(0)
    # Its host is the thread of this process, which goes on meanwhile.
    assert os.waitpid(child, 0)[1] == 0
loop.run_until_complete(channel.publish("t", b"parent", confirm=True))
loop.run_until_complete(channel.close())
"""
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""
