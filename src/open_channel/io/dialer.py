"""One try to connect to a host: connect, check the user, say hello, await the welcome.

A connection counts only after the welcome: a stopped process, or a child that inherited the
listening socket, has a backlog too, and nobody ever accepts from it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from open_channel.errors import (
    ChannelError,
    ForeignUser,
    MessageTooLarge,
    Refused,
    RemoteProtocolError,
    VersionMismatch,
)
from open_channel.io import fork
from open_channel.io.credentials import credentials
from open_channel.io.wire import Wire
from open_channel.protocol.control import (
    Hello,
    Refusal,
    Welcome,
    decode_refusal,
    decode_welcome,
    encode_hello,
    version_of,
)
from open_channel.protocol.frames import VERSION, Frame, Kind, encode
from open_channel.protocol.states import ACCEPTED, ConnectionState

if TYPE_CHECKING:
    from open_channel.io.member import Member
    from open_channel.io.session_io import SessionIO
    from open_channel.protocol.records import HostRecord

__all__ = ["Dialer"]


class Dialer:
    """A connection to the host that a record names, from the first try to its end."""

    def __init__(
        self, member: Member, io: SessionIO, service: str, counter: int, record: HostRecord
    ) -> None:
        loop = asyncio.get_running_loop()
        self._member = member
        self._io = io
        self._service = service
        self._counter = counter
        self._wire: Wire | None = None
        self.record = record
        self.reason = ""
        """Why it came to nothing."""
        self.peer_uid = -1
        self.welcomed = False
        self._answer: asyncio.Future[Welcome | None] = loop.create_future()
        self.closed: asyncio.Future[str] = loop.create_future()
        """Done when a welcomed connection is gone; its result says why."""

    @property
    def reads(self) -> int:
        """Changes with everything that is heard."""
        return self._wire.reads if self._wire is not None else 0

    async def dial(self) -> Welcome | None:
        """Connect; None when the host could not be reached or did not welcome us.

        Raises ForeignUser, VersionMismatch or Refused when trying again would not help. Can be
        cancelled; the connection is closed then by ``abort()``.
        """
        with fork.guard:
            wire = self._wire = self._connect()
        if wire is None:
            return None
        await wire.start()
        wire.write([encode_hello(self._hello())])
        return await self._answer

    def _connect(self) -> Wire | None:
        try:
            sock = socket.socket(socket.AF_UNIX)
        except OSError as error:  # out of descriptors, say
            self.reason = f"cannot be reached: {error.strerror}"
            return None
        sock.setblocking(False)
        try:
            # Not the event loop's connect: on Linux a full backlog gives EAGAIN for a Unix socket,
            # which asyncio takes for a connection in progress, and then for a made one.
            sock.connect(self._member.files.path(self.record.socket))
            self.peer_uid = credentials(sock).uid
        except OSError as error:
            sock.close()
            self.reason = f"cannot be reached: {error.strerror}"
            return None
        if self.peer_uid != (ours := os.geteuid()):
            sock.close()
            raise ForeignUser(
                name=self._member.files.name,
                reason=f"its host runs as user {self.peer_uid}, not {ours}",
                ours=ours,
                theirs=self.peer_uid,
            )
        label = f"{self._member.files.name}: connection to pid {self.record.pid}"
        return Wire(sock, self, label)

    def _hello(self) -> Hello:
        session, limits = self._io.session, self._member.limits
        return Hello(
            service=self._service[0],
            member=self._member.id,
            counter=self._counter,
            hosting=session.hosting,
            received=session.inbox.received,
            window=limits.window,
            max_message=limits.max_message,
        )

    def frames_received(self, frames: list[Frame]) -> None:
        """See ``WireOwner``: the answer to the hello."""
        frame = frames[0]
        wire = self._wire
        assert wire is not None
        if frame.kind not in ACCEPTED[ConnectionState.AWAITING_WELCOME]:
            raise RemoteProtocolError(reason=f"{Kind(frame.kind).name} before the welcome")
        if (theirs := version_of(frame)) != VERSION:
            self._fail(
                VersionMismatch(
                    name=self._member.files.name,
                    reason=f"its host speaks protocol {theirs}, not {VERSION}",
                    ours=VERSION,
                    theirs=theirs,
                )
            )
        elif frame.kind == Kind.REFUSAL:
            self._refused(decode_refusal(frame))
        else:
            self._welcome(decode_welcome(frame), wire)

    def _welcome(self, welcome: Welcome, wire: Wire) -> None:
        session = self._io.session
        session.welcomed(welcome.hosting, welcome.received, resumed=welcome.resumed)
        try:
            session.outbox.agree(welcome.window, welcome.max_message)
        except MessageTooLarge as error:
            self._fail(error)
            return
        wire.decoder.limit = self._member.limits.max_payload
        self.welcomed = True
        if not self._answer.done():
            self._answer.set_result(welcome)
        self._io.attach(wire, resumed=welcome.resumed)

    def _refused(self, refusal: Refusal) -> None:
        name = self._member.files.name
        facts = {"name": name, "reason": refusal.reason}
        if refusal.code == "stale":
            self.abort(refusal.reason)
        elif refusal.code == "version":
            ours, theirs = refusal.theirs, refusal.ours
            self._fail(VersionMismatch(**facts, ours=ours, theirs=theirs))
        elif refusal.code == "user":
            self._fail(ForeignUser(**facts, ours=refusal.theirs, theirs=refusal.ours))
        else:
            self._fail(Refused(**facts))

    def _fail(self, error: ChannelError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
        self.abort(str(error))

    def writable(self) -> None:
        """See ``WireOwner``: the hello always fits."""

    def wire_lost(self, reason: str) -> None:
        """See ``WireOwner``: lost before the welcome."""
        self.reason = self.reason or f"did not welcome us: {reason}"
        if not self._answer.done():
            self._answer.set_result(None)

    def lost(self, reason: str) -> None:
        """Lost after the welcome."""
        if not self.closed.done():
            self.closed.set_result(reason)

    def say_goodbye(self) -> None:
        """Tell the host that this member leaves, then close."""
        if self._wire is not None and self.welcomed:
            self._wire.write([encode(Kind.GOODBYE)])
            self._wire.close()
        else:
            self.abort("closed")

    def abort(self, reason: str) -> None:
        """Close at once; harmless when it is closed."""
        self.reason = self.reason or reason
        if self._wire is not None:
            self._wire.abort(reason)
