"""What a member keeps of a publication until the broker acknowledges it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.core.interests import Key
    from open_channel.protocol.batches import Message

__all__ = ["Held"]


class Held:
    """A publication that is not acknowledged yet."""

    __slots__ = ("first", "jobs", "last", "on_acked", "over", "record", "sent", "share", "size")

    def __init__(self, first: int, last: int, record: Message, share: int) -> None:
        self.first = first
        self.last = last
        self.record = record
        self.size = len(record)
        self.share = share
        """What it counts as: 0 messages, 1 jobs, 2 nothing."""
        self.sent = False
        """Whether a host may have it."""
        self.over = False
        """A request that needs no reply any more: it is not sent again."""
        self.jobs: list[Key] = []
        """The jobs whose being done it tells."""
        self.on_acked: list[Callable[[], None]] = []

    def tell_acked(self) -> None:
        """Nothing of it is to be waited for any more."""
        callbacks, self.on_acked = self.on_acked, []
        for callback in callbacks:
            callback()
