"""The asyncio channel, with what the blocking one needs of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from open_channel.bus.channel import Channel as AsyncChannel
from open_channel.channel.channel import SocketChannel
from open_channel.channel.conversation import CLOSED_HERE
from open_channel.errors import ChannelClosed, ChannelError

if TYPE_CHECKING:
    from open_channel.bus.client import BusClient

__all__ = ["Opened"]

_log = logging.getLogger("open_channel")


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
        await asyncio.gather(self._arrive(timeout), SocketChannel.close(self, timeout))

    async def _arrive(self, timeout: float) -> None:
        bus = self._bus
        if bus is None or bus.error is not None:
            return
        bus.requests.failed(ChannelClosed(name=self.name, reason=CLOSED_HERE))
        try:
            if bus.core.held or bus.core.pending:
                async with asyncio.timeout(timeout):
                    await bus.waiting.arrived()
        except TimeoutError:
            _log.info("%s: left with %d bytes not acknowledged", self.name, bus.core.backlog)
        except ChannelError:
            pass

    leave = AsyncChannel._leave
    destroy = AsyncChannel._destroy
    locking = AsyncChannel._locking
    refuse_locks = AsyncChannel._refuse_locks
