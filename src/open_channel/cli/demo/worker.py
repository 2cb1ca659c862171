"""The script of the demonstration's processes.

``python -m open_channel.cli.demo.worker sockets|bus ROLE CHANNEL DIRECTORY``
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from open_channel.cli.demo.bus.parts import PARTS as BUS_PARTS
from open_channel.cli.demo.sockets.parts import PARTS as SOCKET_PARTS

__all__: list[str] = []

_PLAYS = {"sockets": SOCKET_PARTS, "bus": BUS_PARTS}


async def _run(play: str, role: str, name: str, directory: str) -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    await _PLAYS[play][role](name, directory, orders)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(_run(*sys.argv[1:]))
