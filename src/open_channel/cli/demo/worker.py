"""The script of the demonstration's processes: ``python -m open_channel.cli.demo.worker``.

    worker writer CHANNEL DIRECTORY      writes numbered messages, checks the echoes, never hosts
    worker candidate CHANNEL DIRECTORY   stands for host; its listener echoes

A worker tells the supervisor what happens in lines of JSON on standard output. A writer that reads
a line on standard input stops writing, waits until all has come back, and reports. Any worker
leaves when its standard input ends, so that none outlives the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Coroutine
from struct import Struct
from typing import Any

from open_channel import ChannelSocket, Limits, open_channel
from open_channel.cli.demo.tally import Tally

__all__ = ["FLUSH", "START"]

START = 20.0
"""Seconds that a worker may take until it is connected."""
FLUSH = 20.0
"""Seconds that a writer waits for the last echoes."""

_REPORT = 0.2  # seconds between a writer's reports
_MESSAGE = Struct("=Q56x")  # the number; 64 bytes in all, as small messages are
_STAMP = Struct("=II?")  # the host, its conversation, whether the message was redelivered
_ECHO = Struct("=II?Q56x")  # both

# Less in flight than the defaults allow: what is in flight comes again after a kill, and a
# terminal shows takeovers better than queues.
_LIMITS = Limits(window=512 * 1024, drain=512 * 1024)


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


# --- who stands for host --------------------------------------------------------------------------

_conversations = itertools.count(1)


async def _echo(socket: ChannelSocket) -> None:
    pid, conversation = os.getpid(), next(_conversations)
    async for message in socket:
        socket.write(_STAMP.pack(pid, conversation, socket.redelivered) + message)
        await socket.drain()


async def _candidate(name: str, directory: str, orders: asyncio.StreamReader) -> None:
    channel = open_channel(name, _echo, directory=directory, limits=_LIMITS)
    socket = channel.connect(timeout=START)
    await socket.wait_connected()
    _say(event="ready")
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
                _say(event="host", pid=pid, at=time.monotonic_ns())
            if self._stopped and tally.complete:
                self._complete.set()
        raise EOFError("the socket has ended")

    async def report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT)
            self.say("count")

    def say(self, event: str) -> None:
        tally = self.tally
        _say(
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
    socket = open_channel(name, directory=directory, limits=_LIMITS).connect(timeout=START)
    await socket.wait_connected()
    _say(event="ready")
    writer = _Writer(socket)
    writing = asyncio.ensure_future(writer.write())
    await _until_first(writer.listen(), writer.report(), writer.obey(orders), _forever(writing))
    socket.destroy()


async def _forever(task: asyncio.Future[None]) -> None:
    """End as the task does when it fails, and not at all when it is merely done."""
    await task
    await asyncio.get_running_loop().create_future()


async def _until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends; raise what it raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        task.result()


# --- the script -----------------------------------------------------------------------------------


async def _run(role: str, name: str, directory: str) -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    part = {"writer": _writer, "candidate": _candidate}[role]
    await part(name, directory, orders)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_run(*sys.argv[1:]))
