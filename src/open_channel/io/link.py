"""The link: a member's session with whoever hosts a service, through all its hosts.

It finds the host, hosts itself where there is none (and this member can), shakes hands, watches
the host, and begins again when the connection is lost. All retrying of the library happens in the
loop of ``Link._run()``; what to do next is the election's decision (``protocol.election``).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from open_channel.errors import ChannelError, ConnectTimeout, LocalProtocolError, NameCollision
from open_channel.io.chance import chance
from open_channel.io.dialer import Dialer
from open_channel.io.directory import secure
from open_channel.io.lockfile import LockFile, read_file
from open_channel.io.session_io import SessionIO
from open_channel.protocol.backoff import Backoff
from open_channel.protocol.election import (
    Depose,
    Dial,
    Election,
    Host,
    LockState,
    View,
    Wait,
)
from open_channel.protocol.heartbeat import MISSED, Verdict, Watchdog
from open_channel.protocol.records import HostRecord, decode_host
from open_channel.protocol.session import Session

if TYPE_CHECKING:
    from open_channel.io.directory import ChannelFiles
    from open_channel.io.interfaces import LinkOwner, ServiceHost
    from open_channel.io.member import Member
    from open_channel.protocol.control import Welcome

__all__ = ["LOOP_ENDED", "Link"]

_log = logging.getLogger("open_channel")

_LATE = 0.25  # seconds that a timer may be late before this loop counts as blocked
_ANEW = 3  # times that a timeout begins anew for that

LOOP_ENDED = "its event loop has ended"
"""The reason of a ChannelClosed whose channel was open when all tasks were cancelled."""


class Link:
    """One member's connection to one service."""

    def __init__(
        self,
        member: Member,
        service: str,
        owner: LinkOwner,
        host: ServiceHost | None,
        timeout: float | None,
        *,
        carries: bool = True,
    ) -> None:
        self._member = member
        self._files: ChannelFiles = member.files
        self._service = service
        self._owner = owner
        self._host = host
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._election = Election(member.limits.timeout)
        self._backoff = Backoff()
        self._counter = 0
        self._last = "nothing was tried yet"
        self._hindrance = ""
        self._dialer: Dialer | None = None
        self._watchdog: Watchdog | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._anew = _ANEW
        self._task: asyncio.Task[None] | None = None
        self.session = Session(member.limits, hosts=False, carries=carries, large=not carries)
        self.io = SessionIO(self.session, self._loop, self, arena=member.arena)
        self.io.beaten = self._beaten
        self.ended = False

    def start(self) -> None:
        """Begin to look for the host."""
        if self._timeout is not None:
            self._bound(self._timeout)
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._stopped)

    def _bound(self, timeout: float) -> None:
        due = self._loop.time() + timeout
        self._expiry = self._loop.call_at(due, self._expire, due, timeout)

    def _expire(self, due: float, timeout: float) -> None:
        if self._loop.time() - due > _LATE and self._anew:
            self._anew -= 1
            self._bound(timeout)  # the answer may be there, and nobody had the time to look
        else:
            self._end(ConnectTimeout(name=self._files.name, timeout=timeout, last=self._last))

    async def _run(self) -> None:
        try:
            while not self.ended:
                await self._advance()
        except asyncio.CancelledError:
            self._cancelled()  # in this turn of the loop already: others end conversations in it
            raise
        except ChannelError as error:
            self._end(error)
        except Exception as error:  # a bug of ours: whoever waits on the socket must not hang
            _log.exception("%s: the link has failed", self._files.name)
            failure = LocalProtocolError(reason=f"channel {self._files.name!r}: {error!r}")
            failure.__cause__ = error
            self._end(failure)

    def _stopped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before it began, maybe
            self._cancelled()

    def _cancelled(self) -> None:
        """Nobody but ``close()`` cancels this task, unless all are: the event loop ends."""
        if self.ended:
            return
        _log.info("%s: the event loop ends under the open channel", self._files.name)
        self.ended = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._owner.link_cancelled()
        self.io.over()

    async def _advance(self) -> None:
        try:
            view, lock = self._look()
        except OSError as error:  # out of descriptors, say: it may pass
            reason = f"the lock file cannot be opened: {error}"
            self._tell_once(reason)
            await self._wait(reason)
            return
        action = self._election.decide(view, self._loop.time(), chance())
        match action:
            case Host(epoch):
                assert lock is not None
                await self._start_hosting(lock, epoch)
            case Dial(record):
                await self._dial(record)
            case Wait(delay, reason):
                self._last = reason
                await asyncio.sleep(delay)
            case Depose(file, epoch):
                await self._depose(file, epoch)

    # --- the lock file ---------------------------------------------------------------------

    def _look(self) -> tuple[View, LockFile | None]:
        path = self._files.lock(self._service[0])
        lock = None
        state = LockState.BARRED
        if self._host is not None:
            state = LockState.BUSY
            if not self._host.hosting:
                lock = self._acquire(path)
                state = LockState.WON if lock else LockState.BUSY
        try:
            content, file, pulse = read_file(path, strict=True)
        except OSError:
            if lock is not None:
                lock.release()
            raise
        record = decode_host(content)
        if record is not None and record.name != self._files.name:
            if lock is not None:
                lock.release()
            raise NameCollision(name=self._files.name, other=record.name, path=path)
        return View(state, file, record, pulse), lock

    def _acquire(self, path: str) -> LockFile | None:
        # Somebody may have deleted the directory; and somebody, not we, made it again.
        secure(self._files.directory)
        return LockFile.acquire(path)

    async def _start_hosting(self, lock: LockFile, epoch: int) -> None:
        assert self._host is not None
        hosts, hindrance = False, ""
        try:
            hosts = self._host.start(lock, epoch)
        except (OSError, RuntimeError) as error:  # a full disk, say: it may pass
            hindrance = str(error) or type(error).__name__
        self._tell_once(f"cannot host: {hindrance}" if hindrance else "")
        if hosts:
            self._backoff.reset()
        elif hindrance:
            await self._wait(f"this process was elected and could not host: {hindrance}")
        else:
            await self._wait("this process was elected, and another was faster")

    def _tell_once(self, hindrance: str) -> None:
        """Log what is in the way, unless that was said already."""
        if hindrance and hindrance != self._hindrance:
            _log.error("%s: %s", self._files.name, hindrance)
        self._hindrance = hindrance

    async def _wait(self, reason: str) -> None:
        self._last = reason
        await asyncio.sleep(self._backoff.next(chance()))

    async def _depose(self, file: tuple[int, int], epoch: int) -> None:
        path = self._files.lock(self._service[0])
        try:
            lock = LockFile.create(self._files.temporary(), path, over=file)
        except OSError as error:
            await self._wait(f"the hung host cannot be deposed: {error}")
            return
        _log.info("%s: its host shows no sign of life and is deposed", self._files.name)
        await self._start_hosting(lock, epoch)

    # --- a connection ----------------------------------------------------------------------

    async def _dial(self, record: HostRecord) -> None:
        try:
            self._member.presence.assure()
        except OSError as error:
            await self._wait(f"the presence file cannot be made: {error}")
            return
        self._counter += 1
        dialer = self._dialer = Dialer(self._member, self.io, self._service, self._counter, record)
        limits = self._member.limits
        interval = max(limits.heartbeat, record.heartbeat)
        timeout = max(limits.timeout, MISSED * record.heartbeat)
        self._arm(Watchdog(interval, timeout, self._loop.time()))
        self._last = f"its host, pid {record.pid}, has not answered yet"
        try:
            welcome = await dialer.dial()
            if welcome is None:
                self._last = f"its host, pid {record.pid}, {dialer.reason}"
                self._election.failed(record)
                return
            self._connected(welcome, dialer.peer_uid)
            since = self._loop.time()
            reason = await dialer.closed
            self._election.lost(record, self._loop.time() - since)
        finally:
            self._disarm()
            if not self.ended:  # else it says goodbye
                dialer.abort("the link moves on")
        if not self.ended:
            _log.info("%s: lost the host, pid %d: %s", self._files.name, welcome.pid, reason)
            self._owner.link_lost(reason)

    def _connected(self, welcome: Welcome, uid: int) -> None:
        self._election.connected()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        _log.info(
            "%s: connected to pid %d, epoch %d%s",
            self._files.name,
            welcome.pid,
            welcome.epoch,
            ", resumed" if welcome.resumed else "",
        )
        self._owner.link_connected(welcome, uid)

    # --- the watchdog ----------------------------------------------------------------------

    def _arm(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._watch = self._loop.call_at(watchdog.deadline, self._check, watchdog)

    def _disarm(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = self._watchdog = None

    def _beaten(self) -> None:
        """A heartbeat: check now, while this process is awake, and put the timer off."""
        if (watchdog := self._watchdog) is not None:
            self._disarm()
            self._check(watchdog)

    def _check(self, watchdog: Watchdog) -> None:
        dialer = self._dialer
        assert dialer is not None
        replaced = False

        def pulse() -> int | None:
            nonlocal replaced
            content, _, raised = read_file(self._files.lock(self._service[0]))
            record = decode_host(content)
            # Another hosting's file has another's pulse: ours was deposed, or its file is gone.
            replaced = record is None or record.hosting != dialer.record.hosting
            return None if replaced else raised

        verdict = watchdog.check(self._loop.time(), dialer.reads, pulse)
        if replaced:
            dialer.abort("silent, and replaced by another host")
        elif verdict is Verdict.HUNG:
            silent = self._loop.time() - watchdog.since
            self._election.hung(dialer.record.hosting)
            dialer.abort(f"silent and without a pulse for {silent:.1f} s")
        else:
            if verdict is Verdict.BUSY and not dialer.welcomed:
                self._last = f"its host, pid {dialer.record.pid}, lives, but its event loop is busy"
            self._arm(watchdog)

    # --- the session's keeper --------------------------------------------------------------

    def session_lost(self, reason: str) -> None:
        """See ``SessionKeeper``."""
        assert self._dialer is not None
        self._dialer.lost(reason)

    def session_left(self) -> None:
        """See ``SessionKeeper``: the host hands over; its lock is free already."""
        assert self._dialer is not None
        self._dialer.abort("the host hands over")

    def session_ended(self) -> None:
        """See ``SessionKeeper``: the host's side has closed this session, and means it."""
        self._end(None)

    # --- the end ---------------------------------------------------------------------------

    def _end(self, error: ChannelError | None) -> None:
        if self.ended:
            return
        self._owner.link_ended(error)  # first: who is woken by the close wants to know why
        self.close()

    def close(self) -> None:
        """Say goodbye, close, and never connect again; again is harmless."""
        if self.ended:
            return
        self.ended = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._disarm()
        if self._dialer is not None:
            self._dialer.say_goodbye()
        self.io.over()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
