"""A session on an event loop: when its frames are written, and who is told what came.

Writes gather until the turn of the loop ends, or until the reader is about to wait; then all of
them, and the acknowledgement of what was consumed, leave as one write.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from open_channel.errors import RemoteProtocolError
from open_channel.io.arena import Arena
from open_channel.io.sharing import Sharing
from open_channel.io.threads import check_thread
from open_channel.protocol.frames import SHARED, Frame, Kind
from open_channel.protocol.states import ACCEPTED, ConnectionState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from weakref import WeakSet

    from open_channel.io.arena import Foreign
    from open_channel.io.interfaces import SessionKeeper, SessionUser
    from open_channel.io.wire import Wire
    from open_channel.protocol.session import Session

__all__ = ["SessionIO"]

_CHUNK = 256 * 1024  # bytes handed to the transport at a time

# Plain ints: these are compared for every frame.
_MESSAGES, _END = int(Kind.MESSAGES), int(Kind.END)
_GOODBYE, _PING = int(Kind.GOODBYE), int(Kind.PING)
_SHARING = frozenset({Kind.OFFER, Kind.TAKEN, Kind.WITHDRAWN, Kind.HOLDING})
_ACCEPTED = ACCEPTED[ConnectionState.OPEN]


class SessionIO:
    """Joins a session with the wire it has at the moment, if any."""

    __slots__ = (
        "_inbox",
        "_keeper",
        "_loop",
        "_news",
        "_outbox",
        "_sharing",
        "_thread",
        "beaten",
        "deaf",
        "fence",
        "scheduled",
        "session",
        "user",
        "wire",
    )

    def __init__(
        self,
        session: Session,
        loop: asyncio.AbstractEventLoop,
        keeper: SessionKeeper,
        fence: Callable[[], bool] | None = None,
        arena: Arena | None = None,
        held: WeakSet[Foreign] | None = None,
    ) -> None:
        self.session = session
        self._sharing = Sharing(session, arena or Arena(0), held)
        self._news = self._sharing.news
        self._inbox, self._outbox = session.inbox, session.outbox
        self._loop = loop
        self._thread = threading.get_ident()
        self._keeper = keeper
        self.fence = fence
        """On the host's side: whether this hosting still holds; nothing moves when not."""
        self.beaten: Callable[[], None] | None = None
        """On the member's side: called when a heartbeat has come."""
        self.user: SessionUser | None = None
        self.wire: Wire | None = None
        self.deaf = False
        """Whether messages that come are ignored: the host is handing over."""
        self.scheduled = False
        """Whether a flush will come at the end of this turn of the loop."""

    def attach(self, wire: Wire, *, resumed: bool) -> None:
        """The session has a connection, on which the handshake is done."""
        self.wire = wire
        wire.owner = self
        self._sharing.attach(wire, resumed=resumed)
        if self.user is not None and not resumed:
            self.user.opened()
        self.flush()
        if self.user is not None:
            self.user.attached()

    def detach(self) -> Wire | None:
        """Take the connection away; it tells us nothing any more."""
        wire, self.wire = self.wire, None
        self._sharing.detach()
        if wire is not None:
            self.session.lost()
        return wire

    def schedule(self) -> None:
        """Flush at the end of this turn of the loop.

        Raises ForeignThread in another thread than the loop's, unless it is to be flushed anyway.
        """
        if not self.scheduled:
            self._thread = check_thread(self._thread, self._loop)
            self.scheduled = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what may leave now."""
        self.scheduled = False
        if self.fence is None or self.fence():
            self.write()

    def write(self) -> None:
        """The same, of a host that has just looked whether it is one."""
        wire = self.wire
        if wire is None:
            return
        session = self.session
        outbox = self._outbox
        # Of what lies in shared memory little is written.
        chunk = outbox.window if self._sharing.taken else _CHUNK
        while not wire.paused and (parts := session.transmit(chunk)):
            if self._news:
                parts[:0] = self._sharing.tell()
            wire.write(parts)
            if not outbox.sendable:
                return

    def frames_received(self, frames: list[Frame]) -> None:
        """See ``WireOwner``."""
        if self.fence is not None and not self.fence():
            return
        inbox, outbox = self._inbox, self._outbox
        arrived = acknowledged = beaten = ended = left = False
        for frame in frames:
            kind, flags, _, ack, _ = frame
            if kind == _MESSAGES or kind == _END:  # noqa: PLR1714, SIM109 (quicker than in a set)
                if not self.deaf:
                    if not flags & SHARED:
                        inbox.receive(frame)
                    elif (message := self._sharing.read(frame)) is not None:
                        inbox.receive(frame, message)
                    else:
                        break
                    arrived = True
                    ended = kind == _END
            elif kind == _GOODBYE:
                left = True
            elif kind == _PING:
                beaten = True
            elif kind in _SHARING:
                self._sharing.received(frame)
            elif kind not in _ACCEPTED:
                raise RemoteProtocolError(reason=f"{Kind(kind).name} on an open connection")
            if ack and outbox.acknowledge(ack):
                acknowledged = True
        if beaten and self.beaten is not None:
            self.beaten()
        user = self.user
        # What the user writes while being told leaves in one piece at the end, with what was
        # consumed; nothing is left to do then but to wait for the next event.
        corked = not self.scheduled
        self.scheduled = True
        if ended:
            self._keeper.session_ended()
        if user is not None and (arrived or acknowledged):
            user.received(arrived=arrived, acknowledged=acknowledged)
        if corked:
            self.scheduled = False
            self.write()
        if left:
            self._keeper.session_left()

    def untold(self) -> list[bytes]:
        """What waits to be said with something else."""
        return self._sharing.tell(all_of_it=True)

    def writable(self) -> None:
        """See ``WireOwner``."""
        self.flush()

    def wire_lost(self, reason: str) -> None:
        """See ``WireOwner``."""
        if self.detach() is not None:
            self._keeper.session_lost(reason)

    def over(self) -> None:
        """Close the session and wake whoever waits on it."""
        self.wire = None
        self._sharing.over()
        self.session.close()
        if self.user is not None:
            self.user.over()
