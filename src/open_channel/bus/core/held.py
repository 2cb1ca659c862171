"""What a member keeps of a publication until the broker acknowledges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.core.interests import Key
    from open_channel.protocol.batches import Message

__all__ = ["Held"]


class Held(msgspec.Struct, eq=False):
    """A publication that is not acknowledged yet."""

    first: int
    last: int
    record: Message
    size: int
    share: int
    """What it counts as: 0 messages, 1 jobs, 2 nothing."""
    sent: bool = False
    """Whether a host may have it."""
    over: bool = False
    """A request that needs no reply any more: it is not sent again."""
    jobs: list[Key] = []
    """The jobs whose being done it tells."""
    on_acked: list[Callable[[], None]] = []

    def tell_acked(self) -> None:
        """Nothing of it is to be waited for any more."""
        callbacks, self.on_acked = self.on_acked, []
        for callback in callbacks:
            callback()
