"""The bounds of a channel, in one place: each with its default and its unit."""

from __future__ import annotations

from typing import Any, NoReturn

from open_channel.arguments import check_count
from open_channel.errors import MessageTooLarge
from open_channel.protocol.batches import BATCH_LIMIT, OVERHEAD

__all__ = ["LONGEST_HEARTBEAT", "Limits"]

LONGEST_HEARTBEAT = 3600.0
"""In seconds."""

_KIB = 1024
_MIB = 1024 * _KIB


class Limits:
    """The bounds of one channel; the same for all its members, or the smaller of two holds.

    Sizes are bytes, times are seconds. A message counts with its own size and four bytes. They are
    immutable, and equal when all of them are.

    Raises TypeError for a size that is no int and a time that is no number, and ValueError when
    they are out of bounds or contradict each other.
    """

    max_message: int = 64 * _MIB
    """The largest message; a larger one raises MessageTooLarge when it is written."""

    window: int = 4 * _MIB
    """How much one side may have sent that the other has not consumed yet. It bounds what a
    receiver keeps, so nobody ever has to stop reading. One larger message may travel beside a
    quarter of it."""

    drain: int = 16 * _MIB
    """``drain()`` waits while the outbox holds more than this."""

    outbox: int = 256 * _MIB
    """``write()`` raises OutboxFull rather than hold more than this unacknowledged."""

    heartbeat: float = 1.0
    """A host is never silent for longer than this."""

    timeout: float = 3.0
    """A host that is silent for longer than this, and shows no pulse, is taken for hung."""

    lag: float = 1.0
    """A publication waits no longer than this for a subscriber to receive it; a subscriber that
    lags behind is then left out: it still gets what the broker keeps for it."""

    grace: float = 6.0
    """How long a new broker waits for members that live and have not come back; twice the
    timeout where that is more, so that a member that has to find out for itself that its host
    hangs is in time."""

    queue: int = 128 * _MIB
    """How much a broker keeps for a member that lags, and a member for a subscription; beyond it
    messages are dropped, and counted."""

    shared: int = 32 * _MIB
    """How much memory one process shares with the others for messages of more than 128 KiB, from
    the first of them on; 0 for none: they travel through the sockets then, as they do where there
    is no room, and on systems other than Linux."""

    # A dataclass would be written in fewer lines, and would take an eighth of the time in which the
    # whole package is imported: it is compiled from source there, with each start of a process.
    def __init__(
        self,
        *,
        max_message: int = max_message,
        window: int = window,
        drain: int = drain,
        outbox: int = outbox,
        heartbeat: float = heartbeat,
        timeout: float = timeout,
        lag: float = lag,
        grace: float = grace,
        queue: int = queue,
        shared: int = shared,
    ) -> None:
        given = {**locals()}
        del given["self"]
        for name, value in given.items():
            if isinstance(getattr(Limits, name), int):
                check_count(name, value)
            elif not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} is a number of seconds, not {value!r}")
        vars(self).update(given)
        if self.max_message > 2**31:
            raise ValueError(f"max_message is {self.max_message}, not 0 to 2 GiB")
        if not _KIB <= self.window <= self.outbox or self.drain > self.outbox:
            raise ValueError("window and drain go from 1 KiB and 0 up to what the outbox holds")
        if not 0 < self.heartbeat < self.timeout or self.heartbeat > LONGEST_HEARTBEAT:
            raise ValueError("heartbeat is more than 0, less than the timeout and at most an hour")
        if not self.lag > 0 or not self.grace > 0:
            raise ValueError("lag and grace are more than 0")

    def __repr__(self) -> str:
        return f"Limits({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Limits) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"limits are immutable: {name} stays; replace() makes others")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"limits are immutable: {name} stays; replace() makes others")

    def replace(self, **changes: Any) -> Limits:
        """These limits with some of them changed; raises what ``Limits()`` does."""
        return Limits(**{**vars(self), **changes})

    __replace__ = replace  # what copy.replace() of Python 3.13 calls

    def check_message(self, size: int) -> None:
        """Raises MessageTooLarge for a message of more bytes than may be written."""
        if size > self.max_message:
            raise MessageTooLarge(size=size, limit=self.max_message)

    @property
    def max_payload(self) -> int:
        """The largest payload of a frame: one of the largest messages, or a full batch."""
        return max(self.max_message + OVERHEAD, BATCH_LIMIT)
