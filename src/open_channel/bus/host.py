"""The broker service: a ``Broker`` with a session for each member, in the background thread.

It runs there so that a process whose own event loop is busy or blocked still hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from open_channel.bus.core.broker import Bounds, Broker
from open_channel.bus.core.records import JOB_SIZE, MemberInfo
from open_channel.errors import RemoteProtocolError
from open_channel.io.background import background_loop
from open_channel.io.chance import chance
from open_channel.io.directory import remove_file
from open_channel.io.host import Host
from open_channel.io.lockfile import file_status
from open_channel.io.presence import is_present, list_dead, list_members
from open_channel.protocol.backoff import Backoff

if TYPE_CHECKING:
    from open_channel.bus.core.seat import Seat
    from open_channel.io.guest import Guest
    from open_channel.io.lockfile import LockFile
    from open_channel.io.member import Member

__all__ = ["FEED", "PATIENCE", "SERVICE", "BrokerHost"]

_log = logging.getLogger("open_channel")

SERVICE = "broker"
PATIENCE = 64
"""Records that may go unacknowledged while nothing that waits for their receipt is among them."""

FEED = 4 * 1024 * 1024
"""Bytes handed to a member's session at a time, or a quarter of the window if that is more."""

_CHECKS = 4
"""How often within ``lag`` a host looks at the clock while somebody owes something. A check that
comes late by half of the time between two says that it stood still."""
_SHORTEST = 0.05  # seconds between two of these checks: a timer may be late by some of that

_START = 10.0  # seconds in which the background thread must have begun to host
_STOP = 1.0  # ... in which it should have stepped down: else it does so a little later


class BrokerHost:
    """Hosts the broker in one member whenever it wins the election."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._host: Host | None = None
        self.service: BrokerService | None = None

    @property
    def hosting(self) -> bool:
        """Whether this member hosts now."""
        return self._host is not None and self._host.hosting

    def start(self, lock: LockFile, epoch: int) -> bool:
        """See ``ServiceHost``."""
        loop = background_loop()
        if asyncio.get_running_loop() is loop:
            return self._start(lock, epoch)

        async def start() -> bool:
            return self._start(lock, epoch)

        return asyncio.run_coroutine_threadsafe(start(), loop).result(_START)

    def _start(self, lock: LockFile, epoch: int) -> bool:
        self.service = BrokerService(self._member)
        self._host = Host.start(self._member, SERVICE, lock, epoch, self.service)
        return self._host is not None

    async def hand_over(self) -> None:
        """Leave the hosting in order, if there is one."""
        host = self._host
        if host is None:
            return
        if asyncio.get_running_loop() is host.loop:
            await host.hand_over()
        else:
            leaving = asyncio.run_coroutine_threadsafe(host.hand_over(), host.loop)
            await asyncio.wrap_future(leaving)

    def step_down(self, reason: str) -> None:
        """Leave the hosting at once, if there is one."""
        host = self._host
        if host is None or not host.hosting:
            return
        if asyncio.get_running_loop() is host.loop:
            host.step_down(reason)
            return

        async def step_down() -> None:
            host.step_down(reason)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(step_down(), host.loop).result(_STOP)


class BrokerService:
    """One hosting of the broker: see ``Service``."""

    holds_acks = False
    relays = True

    def __init__(self, member: Member) -> None:
        self._member = member
        self._attendants: dict[bytes, _Attendant] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._step = max(_SHORTEST, member.limits.lag / _CHECKS)
        self._looks = Backoff(cap=member.limits.heartbeat)
        self._looking = False
        self._listed: set[bytes] = set()
        """Whose presence files were here when this began."""

    def begin(self, host: Host) -> None:
        """See ``Service``: whoever is alive now is expected to come back."""
        self.host = host
        self.loop = host.loop
        files, limits = self._member.files, self._member.limits
        # First the dead: who dies in between is found dead when he does not come back.
        dead = list_dead(files)
        expected = [
            MemberInfo(bytes.fromhex(record.member), record.pid, record.labels)
            for record in list_members(files)
            if record.bus
        ]
        self._listed = {info.id for info in expected}
        grace = max(limits.grace, 2 * limits.timeout)
        bounds = Bounds(
            grace=grace,
            lag=limits.lag,
            queue=limits.queue,
            feed=max(FEED, limits.window // 4),
            record=limits.max_message - JOB_SIZE,
        )
        lineage = host.record.lineage
        self.broker = Broker(expected, bounds, self.loop.time(), lineage=lineage, dead=dead)
        self._arm()

    def opened(self, guest: Guest) -> None:
        """See ``Service``."""
        self._attendants[guest.member] = _Attendant(self, guest)

    def closed(self, attendant: _Attendant) -> None:
        """A session is over. When the hosting is, that says nothing of the member.

        Neither does the end of a session that the member never began, because its welcome was
        lost: that member is on its way here again.
        """
        if self._attendants.get(attendant.member) is attendant:
            del self._attendants[attendant.member]
        if not self.host.hosting:
            return
        seat = self.broker.seats.get(attendant.member)
        begun = seat is not None and seat.outbox is attendant.outbox
        if begun or not is_present(self._member.files, attendant.member):
            self.broker.left(attendant.member, self.loop.time())
            self.flush()
        else:
            self._look_soon()

    async def finish(self) -> None:
        """See ``Service``: what was taken in is handed on; what is owed the members know."""
        self.flush()

    # --- time ------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        if not self._looking:
            self._looking = True
            self.loop.call_soon(self._look)

    def _look(self) -> None:
        """See who of those who have not come back is dead."""
        if not self.host.hosting:
            return
        # Who has a session may have written more before its death: the session's end tells.
        missing = [
            seat.member
            for seat in self.broker.seats.values()
            if seat.outbox is None and seat.member not in self._attendants
        ]
        for member in missing:
            if self._is_dead(member):
                remove_file(self._member.files.presence(member.hex()))
                self.broker.left(member, self.loop.time())
                self.flush()
        self._looking = bool(missing)
        if missing:
            self.loop.call_later(self._looks.next(chance()), self._look)

    def _is_dead(self, member: bytes) -> bool:
        """A free lock is the only proof.

        A missing file is none where the directory was deleted, before its member has had the grace
        to make it again.
        """
        path = self._member.files.presence(member.hex())
        exists = file_status(path) is not None  # first: a file that appears meanwhile is locked
        if is_present(self._member.files, member):
            return False
        return exists or member in self._listed or not self.broker.expected

    def _arm(self) -> None:
        if self.broker.expected:
            # At the begin, and when somebody who came back has named more who may be alive.
            self._look_soon()
        now, news = self.loop.time(), self.broker.news_due
        if self._alarm is not None and self._due <= min(now + self._step, news):
            return  # nothing that has been sent since is due before that
        due = self.broker.deadline
        if due is None:
            return
        due = min(due, now + self._step)
        if self._alarm is not None:
            self._alarm.cancel()
        self._due = due
        self._alarm = self.loop.call_at(due, self._tick)

    def _tick(self) -> None:
        self._alarm = None
        if self.host.hosting:
            now = self.loop.time()
            late = now - self._due
            self.broker.tick(now, late if late > self._step / 2 else 0.0)
            self.flush()
            self._arm()  # also when nothing was due yet: timers are early now and then

    # --- what leaves -----------------------------------------------------------------------

    def flush(self) -> None:
        """Write what has to be said now."""
        seats = self.broker.flush()
        if not seats and not self.broker.newcomers:
            return  # else they wait for what is not due yet
        # Read, check, then write: what is said here rests on what was read before this check, so
        # on nothing that a successor could have changed.
        if not self.host.fence_now():
            return
        for seat in seats:
            self._write(seat)
        self._arm()

    def _write(self, seat: Seat) -> None:
        attendant = self._attendants.get(seat.member)
        if attendant is None:
            return
        if seat.unfit:
            name, member = self._member.files.name, seat.member.hex()
            _log.warning("%s: member %s takes no record of %d bytes", name, member, seat.unfit)
            attendant.guest.gone()
        else:
            attendant.guest.io.write()


class _Attendant:
    """One member's session at the broker: see ``SessionUser``."""

    def __init__(self, service: BrokerService, guest: Guest) -> None:
        self._service = service
        self.guest = guest
        self.member = guest.member
        self._inbox = guest.io.session.inbox
        self.outbox = guest.io.session.outbox
        guest.io.session.patience = PATIENCE
        guest.io.user = self
        guest.on_over = self._over

    def _over(self) -> None:
        self._service.closed(self)

    def opened(self) -> None:
        """See ``SessionUser``: the member says who it is first."""

    def received(self, *, arrived: bool, acknowledged: bool) -> None:
        """See ``SessionUser``.

        A record that is refused ends the session, and not its connection alone: what follows it
        was said by somebody who believes that it was taken in.
        """
        service = self._service
        broker, now = service.broker, service.loop.time()
        if acknowledged:
            broker.acknowledged(self.member, now)
        messages = self._inbox.messages
        try:
            while messages:
                broker.received(self.member, self.outbox, messages.popleft(), now)
        except RemoteProtocolError:
            self.guest.gone()
            raise
        service.flush()

    def attached(self) -> None:
        """See ``SessionUser``."""
        service = self._service
        service.broker.acknowledged(self.member, service.loop.time())

    def over(self) -> None:
        """See ``SessionUser``: the service is told of it by the guest."""
