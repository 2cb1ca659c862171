"""Tasks that wait for the bus: until something is so, or has arrived, or there is room."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from open_channel.channel.waiter import Waiter
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
        self._until: dict[asyncio.Future[None], None] = {}  # who came first is woken first
        self._arriving: dict[asyncio.Future[None], None] = {}
        self.round_trip: float | None = None
        """Seconds that the last confirmation took; None before the first."""

    def wake(self) -> None:
        """Let those who wait until something is so look again."""
        if not self._until:  # as mostly
            return
        waiting, self._until = self._until, {}
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
            self._until[future] = None
            try:
                await future
            finally:
                self._until.pop(future, None)

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
        self._arriving[future] = None
        try:
            await future
        finally:
            self._arriving.pop(future, None)
        self.round_trip = client.loop.time() - start
        return without


class _Turn:
    """A task that waits for room."""

    __slots__ = ("limit", "waiter")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self.waiter = Waiter(loop)
        self.limit = limit
        """It may go on while the outbox holds no more than so many bytes."""


class Turns:
    """Those who wait for room in one member's outbox: first come, first served.

    Nobody overtakes them but ``publish_nowait()``, which waits for nothing. As long as there is
    room they go on one after the other in one turn of the loop: each publishes what it has until it
    waits for something else, or the room is used up and it stands behind the others again. So
    several that publish in loops take turns with all the room there is, and many that publish once
    leave together. (When each turn of the loop sent one message, two loops took a hundred times as
    long as one.)
    """

    def __init__(self, client: BusClient) -> None:
        self._client = client
        self._waiting: deque[_Turn] = deque()
        self._looks = False
        """Whether the loop will look who may go on."""

    async def take(self, send: Callable[[], _Sent]) -> _Sent:
        """Let others run, wait until it is this task's turn and there is room; then ``send()``.

        ``send()`` may raise OutboxFull: it is called again when some of that is acknowledged.
        Raises what else it raises, what closed the channel, and ForeignThread in another thread.
        When it is cancelled nothing was sent.
        """
        client = self._client
        client.check_usable()
        turn = _Turn(client.loop, client.limits.drain)
        self._waiting.append(turn)
        while True:
            client.close_room()
            self.look()
            try:
                await turn.waiter
            except BaseException:
                with contextlib.suppress(ValueError):  # it has begun to go on
                    self._waiting.remove(turn)
                self.look()
                raise
            client.check_open()
            try:
                return send()
            except OutboxFull as full:
                turn = _Turn(client.loop, full.size - 1)
                self._waiting.appendleft(turn)

    def end(self) -> None:
        """The channel is closed: each finds out, and raises what closed it."""
        for turn in self._waiting:
            turn.waiter.wake()
        self._waiting.clear()

    def look(self) -> None:
        """Something is acknowledged: somebody may go on in the loop's next turn."""
        if self._waiting and not self._looks:
            self._looks = True
            self._client.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._looks = False
        client, waiting = self._client, self._waiting
        if client.error is not None:
            return
        client.open_room()
        while waiting and client.core.backlog <= waiting[0].limit:
            if client.room <= 0:
                self.look()
                break
            waiting.popleft().waiter.wake(now=True)
        if waiting:
            client.close_room()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
