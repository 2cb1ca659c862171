"""What a member keeps of a publication until the broker acknowledges it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.core.interests import Key
    from open_channel.protocol.batches import Message

__all__ = ["Awaited", "Held"]


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
    """A request that needs no reply any more: it is neither sent again nor waited for."""
    jobs: list[Key] = []
    """The jobs whose being done it tells."""


class Awaited:
    """Who is to be told when publications are acknowledged."""

    __slots__ = ("all", "one")

    def __init__(self) -> None:
        self.one: dict[int, list[Callable[[], None]]] = {}
        """{first number of a publication: who waits for that one}."""
        self.all: deque[tuple[int, Callable[[], None]]] = deque()
        """(a number, who waits for all before it), in order."""

    def acknowledged(self, first: int) -> None:
        """The publication that begins with this number is acknowledged."""
        for callback in self.one.pop(first, ()):
            callback()

    def reached(self, oldest: int) -> None:
        """All before this number are."""
        waiting = self.all
        while waiting and waiting[0][0] <= oldest:
            waiting.popleft()[1]()
