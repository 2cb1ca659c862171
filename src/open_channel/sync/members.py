"""Who joins and leaves, for threads."""

from __future__ import annotations

import asyncio
import queue
from functools import partial
from typing import TYPE_CHECKING

from open_channel.errors import ChannelClosed, WaitTimeout
from open_channel.live import Live
from open_channel.sync import portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType
    from typing import Self

    from open_channel.bus.members import MemberChange
    from open_channel.sync.bus import Bus

__all__ = ["MemberChanges"]


class MemberChanges(Live):
    """An iterator over the members that join and leave; made by ``channel.watch_members()``.

    It counts from when it is made until it is closed, or the channel is. Several threads may use
    it; each change goes to one of them. In a forked child it raises ChannelForked.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._changes: queue.SimpleQueue[MemberChange | None] = queue.SimpleQueue()
        self._task = bus.run(self._begin)

    async def _begin(self) -> asyncio.Task[None]:
        changes = self._bus.client.changes()
        task = asyncio.get_running_loop().create_task(_put(changes, self._changes))
        await asyncio.sleep(0)  # now it watches
        return task

    def get(self, timeout: float | None = None) -> MemberChange:
        """The next change; ``timeout`` is in seconds, None waits for ever.

        Raises WaitTimeout when it passes first, and at the end what closed the channel, or
        ChannelClosed when this was closed.
        """
        client = self._bus.client
        if self._bus.forked:
            client.check_open()
        try:
            change = self._changes.get(timeout=portal.bound(timeout))
        except queue.Empty:
            what = f"a change of the members of {client.name!r}"
            raise WaitTimeout(what=what, timeout=timeout) from None
        if change is None:
            self._changes.put(None)  # for whoever asks again
            client.check_open()
            raise ChannelClosed(name=client.name, reason="the watching has ended")
        return change

    def __iter__(self) -> Self:
        """Iterate until the channel is closed."""
        return self

    def __next__(self) -> MemberChange:
        """The next change; see ``get()``."""
        if self._bus.forked:
            self._bus.client.check_open()
        change = self._changes.get()
        if change is None:
            self._changes.put(None)
            raise StopIteration
        return change

    def close(self) -> None:
        """Watch no more; again is harmless. An iteration ends."""
        if not self._bus.forked and not portal.frozen():
            self._bus.client.run(partial(_cancel, self._task))

    def __enter__(self) -> Self:
        """Nothing: it watches already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Close, when making it did not fail."""
        if hasattr(self, "_task"):
            self.close()


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


async def _put(
    changes: AsyncIterator[MemberChange], into: queue.SimpleQueue[MemberChange | None]
) -> None:
    # It does not know the iterator, which may be forgotten while it waits.
    try:
        async for change in changes:
            into.put(change)
    finally:
        into.put(None)
