"""One member's session, as its host keeps it: open, parked while the member lives, or over.

A guest is never dropped by a timer: only when its member says goodbye, or is dead.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from open_channel.io.chance import chance
from open_channel.io.directory import remove_file
from open_channel.io.presence import is_present
from open_channel.io.session_io import SessionIO
from open_channel.protocol.backoff import Backoff
from open_channel.protocol.session import Session
from open_channel.protocol.states import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.io.credentials import Credentials
    from open_channel.io.host import Host
    from open_channel.protocol.control import Hello

__all__ = ["Guest"]

_log = logging.getLogger("open_channel")


class Guest:
    """A member's session at its host."""

    def __init__(self, host: Host, hello: Hello, peer: Credentials) -> None:
        self._host = host
        self.member = hello.member
        self.peer = peer
        self.counter = 0
        session = Session(host.limits, hosts=host.service.holds_acks, large=host.service.relays)
        session.outbox.agree(hello.window, hello.max_message)
        self.io = SessionIO(session, host.loop, self, host.fence, host.arena, host.held)
        self.on_over: Callable[[], None] | None = None
        """Called once when the session is over."""
        self._writes = 0
        self._check: asyncio.TimerHandle | None = None

    def resume(self, hello: Hello, *, resumed: bool) -> None:
        """A new connection of this member.

        Raises RemoteProtocolError when its numbers contradict ours; the session is over then.
        """
        self.counter = hello.counter
        if (old := self.io.detach()) is not None:
            old.abort("the member has connected again")
        self._stop_checking()
        hosting = self._host.record.hosting
        try:
            self.io.session.welcomed(hosting, hello.received, resumed=resumed)
        except Exception:
            self.gone()
            raise

    def beat(self, ping: list[bytes]) -> None:
        """Say something if nothing was said since the last beat."""
        wire = self.io.wire
        if wire is not None and wire.writes == self._writes and not wire.paused:
            wire.write([*self.io.untold(), *ping])
        self._writes = wire.writes if wire is not None else 0

    def finish(self, *, meant: bool) -> None:
        """End our stream: the member reads what is before it, then the end.

        At a handover the member goes on with another host, unless this end is ``meant``.
        """
        if self.io.session.state is not SessionState.CLOSED and (meant or not self.io.deaf):
            self.io.session.outbox.finish()
            self.io.schedule()

    def stop(self) -> None:
        """Take nothing more: what is not in the user's hands yet is another host's."""
        self.io.deaf = True
        self.io.session.inbox.stop()
        if self.io.user is not None:
            self.io.user.over()

    def dismiss(self, goodbye: bytes | None) -> None:
        """This hosting is over: close the connection, after a goodbye or at once."""
        if (wire := self.io.wire) is not None:
            if goodbye is None:
                wire.abort("no longer the host")
            else:
                wire.write([goodbye])
                wire.close()
        self._over()

    def gone(self) -> None:
        """The member has left or is dead: what it wrote can still be read, then the end."""
        self.io.session.inbox.ended = True
        if (wire := self.io.wire) is not None:
            wire.close()
        self._over()

    def _over(self) -> None:
        self._stop_checking()
        self._host.forget(self)
        self.io.over()
        on_over, self.on_over = self.on_over, None
        if on_over is not None:
            on_over()

    def session_lost(self, reason: str) -> None:
        """See ``SessionKeeper``: parked, unless the member is dead."""
        _log.debug("%s: member %s: %s", self._host.files.name, self.member.hex(), reason)
        self._look(Backoff(cap=self._host.limits.heartbeat))

    def _look(self, backoff: Backoff) -> None:
        # The end of a dead process's connection may come before its lock is free.
        self._check = None
        if not self._host.fence_now():
            return
        if not is_present(self._host.files, self.member):
            remove_file(self._host.files.presence(self.member.hex()))
            self.gone()
            return
        delay = backoff.next(chance())
        self._check = self._host.loop.call_later(delay, self._look, backoff)

    def _stop_checking(self) -> None:
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def session_left(self) -> None:
        """See ``SessionKeeper``."""
        self.gone()

    def session_ended(self) -> None:
        """See ``SessionKeeper``: the service reads the end for itself."""
