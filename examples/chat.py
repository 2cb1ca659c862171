"""A chat between terminals: what is typed in one is shown in all.

    python examples/chat.py NAME

Run it in several terminals. One of them passes the messages on; end that one, and another does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from open_channel import ChannelError, ChannelSocket, open_channel

clients: set[ChannelSocket] = set()  # in use in the process that hosts


async def listener(socket: ChannelSocket) -> None:
    clients.add(socket)
    try:
        async for message in socket:
            for client in clients:
                with contextlib.suppress(ChannelError):  # it has gone, or does not read
                    client.write(message)
    finally:
        clients.discard(socket)


async def show(socket: ChannelSocket) -> None:
    async for message in socket:
        print(message.decode(), flush=True)


async def main(name: str) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with open_channel("examples.chat", listener).connect() as socket:
        showing = asyncio.create_task(show(socket))
        socket.write(f"{name} is here".encode())
        while line := await lines.readline():
            socket.write(f"{name}: ".encode() + line.rstrip())
            await socket.drain()
        socket.write(f"{name} leaves".encode())
    await showing


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
