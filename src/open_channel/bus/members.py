"""What a member tells its user of the channel: who is here, who comes and goes, and figures."""

from __future__ import annotations

import contextlib
from collections import deque

# At run time too: whoever decodes into a Member looks at its hints.
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from open_channel.channel.listener import SERVICE as LISTENER
from open_channel.channel.waiter import Waiters
from open_channel.errors import ChannelClosed, ChannelForked
from open_channel.io import fork
from open_channel.io.lockfile import is_locked, read_file
from open_channel.live import Live
from open_channel.protocol.records import decode_host

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from open_channel.bus.client import BusClient
    from open_channel.errors import ChannelError
    from open_channel.io.directory import ChannelFiles

__all__ = ["Member", "MemberChange", "MemberChanges", "Stats", "Watch", "listener_host"]


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a channel: one opened channel in one process."""

    id: str
    """32 random hexadecimal digits."""
    pid: int
    hosting: frozenset[str]
    """The services it hosts now: ``"broker"``, ``"listener"``, both or none."""
    labels: Mapping[str, str] = field(hash=False)  # a mapping need not have one
    """What it was opened with."""


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A member has come or gone."""

    kind: Literal["joined", "left"]
    member: Member


class Watch:
    """The changes that somebody watches for and has not taken; the channel knows it while it is on.

    It does not know who takes them, in the loop or in threads, so that these may be forgotten.
    """

    def __init__(self, client: BusClient, on_change: Callable[[], None] | None = None) -> None:
        self.client = client
        self._on_change = on_change
        """Called when there is something to take, or the end."""
        self._changes: deque[MemberChange] = deque()
        self._readers = Waiters()
        self._forgotten = False
        self.error: ChannelError | None = None
        """What has ended it; None while it goes on."""

    def __repr__(self) -> str:
        ended = "" if self.error is None else ", ended"
        return f"<MemberChanges {self.client.name!r}, {len(self._changes)} to take{ended}>"

    def begin(self) -> None:
        """In the loop: watch from now on. Raises what closed the channel."""
        self.client.check_open()
        self.client.watches.add(self)
        if self._forgotten:  # by a thread that was interrupted while it waited for this
            self.client.watches.discard(self)

    def put(self, change: MemberChange) -> None:
        """In the loop: a member has come or gone."""
        self._changes.append(change)
        self._wake()

    def close(self) -> None:
        """Watch no more, in any thread where tasks do not wait; again is harmless."""
        self.end(ChannelClosed(name=self.client.name, reason="the watching has ended"))

    def end(self, error: ChannelError) -> None:
        """Nothing follows what has come: the channel is closed, or this."""
        self.forget()
        if self.error is None:
            self.error = error
            self._wake()

    def forget(self) -> None:
        """Nobody will take anything; in any thread, and in a destructor."""
        self._forgotten = True
        self.client.watches.discard(self)

    def _wake(self) -> None:
        self._readers.wake()
        if self._on_change is not None:
            self._on_change()

    def look(self) -> tuple[MemberChange | None] | None:
        """The next change, in a tuple; None in it at the end; None alone while there is nothing.

        In any thread. Raises ChannelForked in a forked child.
        """
        fork.notice()
        if isinstance(self.client.error, ChannelForked):  # what has come is the parent's
            raise self.client.error.again()
        error = self.error  # first, since changes may come before the end while this looks
        with contextlib.suppress(IndexError):
            return (self._changes.popleft(),)
        return None if error is None else (None,)

    async def following(self) -> MemberChange | None:
        """The next change; None at the end. Can be cancelled: no change is lost by it."""
        while (found := self.look()) is None:
            await self._readers.wait(self.client.loop)
        return found[0]


class MemberChanges(Live):
    """An iterator over the members that join and leave; made by ``channel.watch_members()``.

    It counts from when it is made until it is closed or forgotten, or the channel is closed.
    Iterate over it, or ``get()``: each step can be cancelled, by a timeout for example, and the
    next one goes on where it was; no change is lost by it. Several tasks may do so at once; each
    change goes to one of them. In a forked child it raises ChannelForked.
    """

    def __init__(self, client: BusClient) -> None:
        self._watch = Watch(client)
        self._watch.begin()

    def __repr__(self) -> str:
        return repr(self._watch)

    async def get(self) -> MemberChange:
        """The next change.

        Raises at the end what closed the channel, or ChannelClosed when this was closed. Can be
        cancelled: no change is lost by it.
        """
        change = await self._watch.following()
        if change is None:
            assert self._watch.error is not None
            raise self._watch.error.again()
        return change

    def __aiter__(self) -> Self:
        """Iterate until this or the channel is closed."""
        return self

    async def __anext__(self) -> MemberChange:
        """The next change; see ``get()``."""
        change = await self._watch.following()
        if change is None:
            raise StopAsyncIteration
        return change

    async def aclose(self) -> None:
        """Watch no more; again is harmless. An iteration ends with what has come before."""
        self._watch.close()

    async def __aenter__(self) -> Self:
        """Nothing: it watches already."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    def __del__(self) -> None:
        """Watch no more."""
        self._watch.forget()


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one member's bus, from its opening on; sizes are bytes."""

    epoch: int
    """Of the broker it is connected to, or was last: how many hosts the channel has had."""
    takeovers: int
    """How many other hosts it has been connected to since the first."""
    members: int
    unacknowledged: int
    """Publications that have not arrived everywhere."""
    outbox: int
    """Their size."""
    queued: int
    """What this member's subscriptions hold, and was not taken."""
    resent: int
    """Publications sent again to a new host."""
    duplicates: int
    """Messages that arrived again and were dropped."""
    missed: int
    """Messages that this member's subscriptions lost: see ``Message.missed``."""
    left_out: int
    """Members that publications of this one were acknowledged without."""
    round_trip: float | None
    """Seconds that the last ``flush()`` or confirmed ``publish()`` took; None before one."""


def listener_host(files: ChannelFiles) -> str:
    """The id of the member that hosts the listener; empty while nobody does, as far as is known."""
    path = files.lock(LISTENER[0])
    record = decode_host(read_file(path)[0])
    with contextlib.suppress(OSError):  # no descriptor to look with, say
        if record is not None and is_locked(path):
            return record.member
    return ""
