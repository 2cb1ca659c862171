"""A process that forks after it has opened a channel; its argument says which API it uses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import open_channel
import open_channel.sync as blocking


def tell(**event: Any) -> None:
    os.write(1, (json.dumps({"pid": os.getpid(), **event}) + "\n").encode())


# --- asyncio --------------------------------------------------------------------------------------


async def echo(socket: open_channel.ChannelSocket) -> None:
    async for message in socket:
        socket.write(b"echo " + message)


async def use(channel: open_channel.Channel, socket: open_channel.ChannelSocket) -> dict[str, str]:
    """What each use of the parent's channel raises."""

    async def write() -> None:
        socket.write(b"from the child")

    async def connect() -> None:
        channel.connect()

    uses: dict[str, Callable[[], Awaitable[Any]]] = {
        "write": write,
        "read": socket.read,
        "connect": connect,
        "drain": socket.drain,
    }
    raised = {}
    for name, function in uses.items():
        try:
            await asyncio.wait_for(function(), 5)
        except Exception as error:
            raised[name] = type(error).__name__
    return raised


async def with_asyncio() -> None:
    channel = open_channel.open_channel("chat", echo)
    socket = channel.connect()
    await socket.wait_connected()
    if not (child := os.fork()):
        # The parent's loop runs in this thread, as the child sees it: a new one needs another.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            tell(raised=pool.submit(asyncio.run, use(channel, socket)).result())
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    socket.write(b"unharmed")
    tell(parent=(await socket.read()).decode())
    await channel.close()


# --- blocking -------------------------------------------------------------------------------------


def listen(socket: blocking.ChannelSocket) -> None:
    for message in socket:
        # The answer of whichever kind of host: it ends with what was asked.
        socket.write(b"echo " + message)


def converse(socket: blocking.ChannelSocket, count: int) -> int:
    """Exchange numbered messages; return how many answers were right."""
    right = 0
    for number in range(count):
        socket.write(b"%d" % number)
        right += socket.read(timeout=10).endswith(b" %d" % number)
    return right


channel = blocking.open_channel("chat", listen)


def child() -> None:
    socket = channel.connect()
    answers = converse(socket, 100)
    peer = channel.peer
    assert peer is not None
    [mine] = [m for m in members() if m["pid"] == os.getpid()]
    tell(child=os.getpid(), peer=peer.pid, answers=answers, member=mine["member"])
    channel.close()


def members() -> list[dict[str, Any]]:
    directory = os.environ["OPEN_CHANNEL_DIR"]
    names = [name for name in os.listdir(directory) if ".m." in name]
    found = []
    for name in names:
        # Whoever leaves in between takes its file along.
        with contextlib.suppress(FileNotFoundError), open(os.path.join(directory, name)) as file:
            found.append(json.loads(file.read()))
    return found


def with_multiprocessing() -> None:
    socket = channel.connect()
    right = converse(socket, 100)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=child) for _ in range(3)]
    for process in children:
        process.start()
    for process in children:
        process.join(30)
    tell(exit_codes=[process.exitcode for process in children])
    tell(parent=right + converse(socket, 100))
    channel.close()


if __name__ == "__main__":
    if sys.argv[1] == "asyncio":
        asyncio.run(with_asyncio())
    else:
        with_multiprocessing()
