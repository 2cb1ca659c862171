"""The asyncio channel, with what the blocking one needs of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from open_channel.bus.channel import Channel as AsyncChannel
from open_channel.channel.channel import SocketChannel

if TYPE_CHECKING:
    from open_channel.bus.client import BusClient

__all__ = ["Opened"]


class Opened(AsyncChannel):
    """What a blocking channel has in the loop."""

    def bus(self) -> BusClient:
        """Its bus; joins it."""
        return self._join_bus()

    def end_unused(self) -> None:
        """Close it before its first use."""
        self._closed = True

    async def deliver(self, timeout: float) -> None:
        """Wait until what was published and written has arrived; the socket is closed then.

        Each wait is bounded by ``timeout`` seconds, and they are waited for together.
        """
        waits = [SocketChannel.close(self, timeout)]
        if self._bus is not None:
            waits.append(self._bus.deliver(timeout))
        await asyncio.gather(*waits)

    leave = AsyncChannel._leave
    destroy = AsyncChannel._destroy
    locking = AsyncChannel._locking
    refuse_locks = AsyncChannel._refuse_locks
