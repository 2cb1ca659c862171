"""A channel's bus as threads use it: what they leave for the loop, and what they wait for there.

What is published stays in a queue, in the order in which it was, with what consumers say of their
jobs; the loop is told once that there is something in it, however much that is. A thread waits for
the loop only when there may be no room left, which it looks at every so many bytes.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from open_channel.bus.core import codec
from open_channel.bus.core.records import Flag
from open_channel.bus.core.subjects import check_topic
from open_channel.errors import MessageTooLarge, OutboxFull
from open_channel.io import fork
from open_channel.protocol.batches import OVERHEAD
from open_channel.sync import portal
from open_channel.sync.bell import Errand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from open_channel.bus.client import BusClient

__all__ = ["Bus"]

_Result = TypeVar("_Result")

_ENCODED = int(Flag.ENCODED)
_TOPICS = 65536  # how many topics are remembered as checked


class Bus:
    """The bus of one opened channel, in one process; made in the loop."""

    def __init__(self, client: BusClient) -> None:
        self.client = client
        """What runs in the loop."""
        self._pid = os.getpid()
        self._queue: deque[tuple[bytes, bytes, int] | Callable[[], None]] = deque()
        self._errand = Errand(client.loop, self._move)  # to take in what is in the queue
        self._topics: dict[str, bytes] = {}
        self._room = client.fair

    # --- in the loop -----------------------------------------------------------------------

    def _move(self) -> None:
        """Take in what threads have left."""
        self._errand.told = False
        client, queue = self.client, self._queue
        if not queue:
            return
        publish = client.core.publish
        try:
            while queue:
                item = queue.popleft()
                if callable(item):
                    item()
                elif client.error is None:
                    publish(*item)
        except MessageTooLarge as error:  # the host has changed since the message was left
            client.outgrown(error)
            self._errand.ask()  # there may be more in the queue, and somebody who waits for it
        if client.error is None:
            client.schedule()

    async def _send_confirmed(self, topic: bytes, body: bytes, flags: int) -> tuple[str, ...]:
        self.client.check_open()
        self.client.core.publish(topic, body, flags)
        return await self.client.waiting.arrived(last=True)

    def _look_for_room(self, size: int) -> None:
        backlog, limit = self.client.core.backlog, self.client.limits.outbox
        if backlog and backlog + size > limit:
            raise OutboxFull(size=backlog, limit=limit)
        self._room = max(min(self.client.fair, limit - backlog), size + 1)

    # --- in any thread ---------------------------------------------------------------------

    @property
    def forked(self) -> bool:
        """Whether this is a forked child, and the bus its parent's."""
        if self._pid == os.getpid():
            return False
        fork.notice()
        return True

    def post(self, callback: Callable[[], None]) -> None:
        """Have this called in the loop, behind all that was published and posted before."""
        try:
            self._queue.append(callback)
            self._errand.ask()
        except BaseException:  # a signal handler's: it may be in the queue
            self._errand.again()
            raise

    def run(
        self,
        function: Callable[[], Awaitable[_Result]],
        timeout: float | None = None,
        what: str = "",
    ) -> _Result:
        """Await something in the loop, behind all that was left there before; see ``portal.run``.

        Raises what closed the channel, and ChannelForked in a forked child.
        """
        fork.notice()
        self.client.check_open()

        async def behind() -> _Result:
            self._move()
            return await function()

        return portal.run(behind, timeout, what)

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call a function in the loop, behind all that was left there before; as ``run()``."""

        async def coroutine() -> _Result:
            return function()

        return self.run(coroutine)

    def publish(
        self,
        topic: str,
        data: object,
        *,
        wait: bool = True,
        confirm: bool = False,
        timeout: float | None = None,
    ) -> tuple[str, ...]:
        """Leave one message; see ``Channel.publish()``; not to ``wait`` is ``publish_nowait()``."""
        client = self.client
        if client.error is not None:
            client.check_open()
        known = self._topics.get(topic)
        if known is None:
            known = self._check_topic(topic)
        if type(data) is bytes:
            body, flags = data, 0
        else:
            body, encoded = codec.encode(data, topic)
            flags = _ENCODED if encoded else 0
        size = len(body)
        if size >= self._room or size > client.limits.max_message:
            self._make_room(size, wait, timeout)
        # That an update of another thread may get lost is no matter: it is an estimate.
        self._room -= size + OVERHEAD
        if confirm:
            send = partial(self._send_confirmed, known, body, flags)
            return self.run(send, timeout, "the confirmation of a message")
        try:
            self._queue.append((known, body, flags))
            if not self._errand.told:
                self._errand.ask()
        except BaseException:  # as in post()
            self._errand.again()
            raise
        return ()

    def _check_topic(self, topic: str) -> bytes:
        if len(self._topics) >= _TOPICS:
            self._topics.clear()
        # One object for each topic, by which the core knows messages to one topic in a row.
        return self._topics.setdefault(topic, check_topic(topic).encode())

    def _make_room(self, size: int, wait: bool, timeout: float | None) -> None:
        self.client.limits.check_message(size)
        if wait:
            look = partial(self._look_for_room, size)
            self.run(partial(self.client.turns.take, look), timeout, "room in the outbox")
        else:
            self.call(lambda: self._look_for_room(size))

    def flush(self, timeout: float | None) -> tuple[str, ...]:
        """See ``Channel.flush()``."""
        what = "the confirmation of what was published"
        return self.run(self.client.waiting.arrived, timeout, what)
