"""A writer, and who stands for host of the listener service.

``writer``      writes numbered messages, checks the echoes, never hosts
``candidate``   its listener echoes
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from struct import Struct

from open_channel import ChannelSocket, open_channel
from open_channel.cli.demo.part import FLUSH, LIMITS, REPORT, START, forever, say, until_first
from open_channel.cli.demo.sockets.tally import Tally

__all__ = ["PARTS"]

_MESSAGE = Struct("=Q56x")  # the number; 64 bytes in all, as small messages are
_STAMP = Struct("=II?")  # the host, its conversation, whether the message was redelivered
_ECHO = Struct("=II?Q56x")  # both


# --- who stands for host --------------------------------------------------------------------------

_conversations = itertools.count(1)


async def _echo(socket: ChannelSocket) -> None:
    pid, conversation = os.getpid(), next(_conversations)
    async for message in socket:
        socket.write(_STAMP.pack(pid, conversation, socket.redelivered) + message)
        await socket.drain()


async def _candidate(name: str, directory: str, orders: asyncio.StreamReader) -> None:
    channel = open_channel(name, _echo, directory=directory, limits=LIMITS)
    socket = channel.connect(timeout=START)
    await socket.wait_connected()
    say(event="ready")
    await orders.read()
    await socket.close()


# --- who writes -----------------------------------------------------------------------------------


class _Writer:
    def __init__(self, socket: ChannelSocket) -> None:
        self.tally = Tally()
        self._socket = socket
        self._stopped = False
        self._complete = asyncio.Event()

    async def write(self) -> None:
        pack, socket, tally = _MESSAGE.pack, self._socket, self.tally
        while not self._stopped:
            socket.write(pack(tally.sent))
            tally.sent += 1
            await socket.drain()

    async def listen(self) -> None:
        unpack, tally = _ECHO.unpack, self.tally
        async for message in self._socket:
            pid, conversation, marked, number = unpack(message)
            if tally.hear((pid, conversation), number, marked=marked):
                say(event="host", pid=pid, at=time.monotonic_ns())
            if self._stopped and tally.complete:
                self._complete.set()
        raise EOFError("the socket has ended")

    async def report(self) -> None:
        while True:
            await asyncio.sleep(REPORT)
            self.say("count")

    def say(self, event: str) -> None:
        tally = self.tally
        say(
            event=event,
            sent=tally.sent,
            received=tally.received,
            redelivered=tally.redelivered,
            unmarked=tally.unmarked,
            misordered=tally.misordered,
        )

    async def obey(self, orders: asyncio.StreamReader) -> None:
        """Stop at the first order, report when all is back or never will be; stay to the end."""
        if await orders.readline():
            self._stopped = True
            if not self.tally.complete:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH):
                        await self._complete.wait()
            self.say("done")
            await orders.read()


async def _writer(name: str, directory: str, orders: asyncio.StreamReader) -> None:
    socket = open_channel(name, directory=directory, limits=LIMITS).connect(timeout=START)
    await socket.wait_connected()
    say(event="ready")
    writer = _Writer(socket)
    writing = asyncio.ensure_future(writer.write())
    await until_first(writer.listen(), writer.report(), writer.obey(orders), forever(writing))
    socket.destroy()


PARTS = {"writer": _writer, "candidate": _candidate}
