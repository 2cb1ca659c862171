"""The interfaces between the parts: who is told what. Needed by type checkers and readers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from open_channel.errors import ChannelError
    from open_channel.io.guest import Guest
    from open_channel.io.host import Host
    from open_channel.io.lockfile import LockFile
    from open_channel.protocol.control import Welcome
    from open_channel.protocol.frames import Frame

__all__ = [
    "Forkable",
    "LinkOwner",
    "Service",
    "ServiceHost",
    "SessionKeeper",
    "SessionUser",
    "WireOwner",
]


class Forkable(Protocol):
    """A live object that holds descriptors."""

    def forked(self) -> None:
        """Called in a forked child, before any other code runs there: close the descriptors."""


class WireOwner(Protocol):
    """Who gets what comes over a wire."""

    def frames_received(self, frames: list[Frame]) -> None:
        """Frames came; raise RemoteProtocolError to end the connection."""

    def writable(self) -> None:
        """Writing may go on after ``Wire.paused``."""

    def wire_lost(self, reason: str) -> None:
        """The connection is gone; everything that arrived was handed over before."""


class SessionUser(Protocol):
    """Who reads and writes a session's messages: a socket, or one side of the bus."""

    def opened(self) -> None:
        """A session with a new hosting begins, before anything is written on its connection."""

    def received(self, *, arrived: bool, acknowledged: bool) -> None:
        """Messages have arrived, or were acknowledged, or both.

        The event loop itself calls, and no task: a waiting one may go on at once. All that is
        written meanwhile leaves in one piece.
        """

    def attached(self) -> None:
        """There is a connection, and by it the other side's news of what it has consumed."""

    def over(self) -> None:
        """Nothing will arrive, or be acknowledged, any more."""


class SessionKeeper(Protocol):
    """Who makes connections for a session: the link, or the host."""

    def session_lost(self, reason: str) -> None:
        """The connection is gone."""

    def session_left(self) -> None:
        """The other side said goodbye."""

    def session_ended(self) -> None:
        """The other side's stream has ended: nothing follows what has arrived."""


class Service(Protocol):
    """What a host does for its members."""

    holds_acks: bool
    """Whether an acknowledgement waits for what was written before: see ``Session``."""
    relays: bool
    """Whether what one member writes is handed on to others, so that all must take it."""

    def begin(self, host: Host) -> None:
        """The hosting begins: the lock is held, and nobody has been accepted yet."""

    def opened(self, guest: Guest) -> None:
        """A member has opened a session with this hosting."""

    async def finish(self) -> None:
        """The host hands over: return when what was in hand is done, or enough was waited."""


class ServiceHost(Protocol):
    """Hosts a service in this member when the election is won."""

    @property
    def hosting(self) -> bool:
        """Whether it does now."""
        ...

    def start(self, lock: LockFile, epoch: int) -> bool:
        """Host: the lock is held. Returns False when another was faster.

        Raises OSError or RuntimeError when it cannot be. Either way the lock is released then.
        """
        ...


class LinkOwner(Protocol):
    """Who is told how a link fares."""

    def link_connected(self, welcome: Welcome, uid: int) -> None:
        """A host has welcomed us; ``uid`` is the user it runs as."""

    def link_lost(self, reason: str) -> None:
        """The connection is gone; the link looks for a host again."""

    def link_ended(self, error: ChannelError | None) -> None:
        """The link will not connect again: it failed, or (None) the host's side ended it."""

    def link_cancelled(self) -> None:
        """The event loop ends under an open channel: let go of all at once, without awaiting.

        What has been scheduled in the loop may still run; what is scheduled now may not.
        """
