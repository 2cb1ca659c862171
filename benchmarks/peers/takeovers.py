"""The pause of a stream when its host is killed. No peer here has such a thing: ours alone.

A publisher sends a numbered message each millisecond, through a host in another process, to a
subscriber in a third; three more processes stand by. The host is killed with SIGKILL. The pause is
the time from the kill until the subscriber has the first message that was published after it. No
message may be missing, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time

from harness import BenchmarkError, Crew, commands, percentile, say, until_dismissed

from peers.patterns import Figures, expect
from peers.peer import Peer

NAME = "takeover"
TOPIC = "ticks"
PACE = 0.001  # seconds between two messages
STANDBY = 3
AT_LEAST = 50
"""Messages between two kills."""


async def standby() -> None:
    """A member that may host."""
    from open_channel import open_channel

    async with open_channel(NAME):
        say(ready=True)
        await until_dismissed()


async def ticker() -> None:
    from open_channel import open_channel

    async with open_channel(NAME, hosts=False) as channel:
        say(ready=True)
        number = 0
        while True:
            now = time.monotonic_ns().to_bytes(8, "big")
            await channel.publish(TOPIC, number.to_bytes(8, "big") + now)
            number += 1
            await asyncio.sleep(PACE)


async def watcher() -> None:
    """After each word from the parent: when the first message came that was published since."""
    from open_channel import open_channel

    killed = 0

    async def listen() -> None:
        nonlocal killed
        async for order in commands():
            killed = order["killed_at"]

    async with open_channel(NAME, hosts=False) as channel, channel.subscribe(TOPIC) as ticks:
        say(ready=True)
        listening = asyncio.ensure_future(listen())
        due = since = 0
        async for tick in ticks:
            now = time.monotonic_ns()
            number = int.from_bytes(tick.body[:8], "big")
            published = int.from_bytes(tick.body[8:], "big")
            if due and number != due:
                raise BenchmarkError(f"message {number} came where {due} was due")
            due = number + 1
            since += 1
            if killed and published > killed:
                say(pause=now - killed)
                killed = since = 0
            elif since == AT_LEAST:
                say(host=next(m.pid for m in channel.members if "broker" in m.hosting))
        listening.cancel()


def measure(peer: Peer, kills: int) -> Figures:
    """Kill the host so many times; percentiles of the pause in milliseconds."""
    pauses: list[float] = []
    begun = time.monotonic()
    with Crew() as crew:
        standing = {}
        for _ in range(1 + STANDBY):
            child = crew.spawn(standby, loop=peer.loop)
            expect(child, "ready")
            standing[child.pid] = child
        watching = crew.spawn(watcher, loop=peer.loop)
        expect(watching, "ready")
        expect(crew.spawn(ticker, loop=peer.loop), "ready")
        for _ in range(kills):
            host = standing.pop(expect(watching, "host")["host"])
            killed_at = time.monotonic_ns()
            os.kill(host.pid, signal.SIGKILL)
            watching.tell(killed_at=killed_at)
            pauses.append(expect(watching, "pause")["pause"] / 1e6)
            crew.end(host)
            child = crew.spawn(standby, loop=peer.loop)
            expect(child, "ready")
            standing[child.pid] = child
    return {
        "count": float(kills),
        "seconds": time.monotonic() - begun,
        **{f"p{share}_ms": percentile(pauses, share) for share in (50, 90, 99, 100)},
    }
