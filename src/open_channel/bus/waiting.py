"""Tasks that wait for the bus: until something is so, or has arrived, or there is room."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from open_channel.errors import OutboxFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.client import BusClient
    from open_channel.errors import ChannelError
    from open_channel.protocol.limits import Limits

__all__ = ["Turns", "Waiting", "fair_share"]

_FAIR = 256 * 1024  # bytes published before somebody looks whether there is room for more

_Sent = TypeVar("_Sent")


def fair_share(limits: Limits) -> int:
    """Bytes that may be published before somebody looks whether there is room for more.

    They fit the outbox beside what may be in it then, and none of them is too large.
    """
    return min(_FAIR, limits.max_message + 1, limits.outbox - limits.drain)


class Waiting:
    """Those who wait until something is so, or has arrived."""

    def __init__(self, client: BusClient) -> None:
        self._client = client
        self._until: set[asyncio.Future[None]] = set()
        self._arriving: set[asyncio.Future[None]] = set()
        self.round_trip: float | None = None
        """Seconds that the last confirmation took; None before the first."""

    def wake(self) -> None:
        """Let those who wait until something is so look again."""
        if not self._until:  # as mostly
            return
        waiting, self._until = self._until, set()
        for future in waiting:
            _resolve(future)

    def end(self, error: ChannelError) -> None:
        """The channel is closed, which all of them are told."""
        self.wake()
        for future in self._arriving:
            if not future.done():
                future.set_exception(error.again())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that connecting or an acknowledgement can bring about.

        Raises what closed the channel. Can be cancelled.
        """
        while not condition():
            self._client.check_open()
            future: asyncio.Future[None] = self._client.loop.create_future()
            self._until.add(future)
            try:
                await future
            finally:
                self._until.discard(future)

    async def arrived(self, *, last: bool = False) -> tuple[str, ...]:
        """Wait until everything published so far has arrived, or the ``last`` message alone.

        Returns the members that were left out. Raises what closed the channel. Can be cancelled.
        """
        client, core = self._client, self._client.core
        client.check_open()
        without: tuple[str, ...] = ()
        future: asyncio.Future[None] = client.loop.create_future()

        def told() -> None:
            nonlocal without
            left_out = (member for member, seq in core.without.items() if seq >= first)
            without = tuple(member.hex() for member in left_out)
            _resolve(future)

        start = client.loop.time()
        first = core.last if last else core.oldest
        if last:
            core.when_last_acknowledged(told)
        else:
            core.when_acknowledged(told)
        client.schedule()
        self._arriving.add(future)
        try:
            await future
        finally:
            self._arriving.discard(future)
        self.round_trip = client.loop.time() - start
        return without


class Turns:
    """Those who wait for room in one member's outbox: first come, first served.

    One of them at a time waits for acknowledgements, so that each of these wakes one task, however
    many wait. Nobody overtakes them but ``publish_nowait()``, which waits for nothing.
    """

    def __init__(self, client: BusClient) -> None:
        self._client = client
        self._first = asyncio.Lock()  # held by who is the first of them
        self._waiting = 0

    async def take(self, send: Callable[[], _Sent]) -> _Sent:
        """Let others run, wait until it is this task's turn and there is room; then ``send()``.

        ``send()`` may raise OutboxFull: it is called again when some of that is acknowledged.
        Raises what else it raises, and what closed the channel. When it is cancelled nothing was
        sent.
        """
        client = self._client
        self._waiting += 1
        client.close_room()
        try:
            async with self._first:
                await asyncio.sleep(0)
                fits = partial(self._holds, client.limits.drain)
                while True:
                    await client.waiting.until(fits)
                    client.check_open()
                    client.open_room()
                    try:
                        return send()
                    except OutboxFull as full:
                        client.close_room()
                        fits = partial(self._holds, full.size - 1)
        finally:
            self._waiting -= 1
            if self._waiting:
                client.close_room()

    def _holds(self, size: int) -> bool:
        """Whether the outbox holds no more than that."""
        return self._client.core.backlog <= size


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
