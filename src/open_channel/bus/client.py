"""A member on an event loop: its link to the broker, and whoever waits for what comes over it."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import threading
from typing import TYPE_CHECKING, Literal

from open_channel.bus.core import codec
from open_channel.bus.core.interests import Interest
from open_channel.bus.core.member import MemberCore
from open_channel.bus.core.records import ENCODED, Flag, MemberInfo
from open_channel.bus.core.row import NAMED
from open_channel.bus.core.subjects import check_topic
from open_channel.bus.host import PATIENCE, SERVICE, BrokerHost
from open_channel.bus.members import Member, MemberChange, Stats, Watch, listener_host
from open_channel.bus.requests import Requests
from open_channel.bus.subscription import Subscription
from open_channel.bus.waiting import Turns, Waiting, fair_share
from open_channel.channel.conversation import CLOSED_HERE
from open_channel.errors import (
    ChannelClosed,
    ChannelError,
    ChannelForked,
    MessageTooLarge,
    OutboxFull,
)
from open_channel.io import fork
from open_channel.io.link import LOOP_ENDED, Link
from open_channel.io.threads import check_thread
from open_channel.protocol.batches import LARGE, OVERHEAD, SEAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.bus.core.interests import Awaiting
    from open_channel.bus.requests import Replies
    from open_channel.io.member import Member as OwnMember
    from open_channel.protocol.control import Welcome
    from open_channel.protocol.limits import Limits

__all__ = ["BusClient"]

_log = logging.getLogger("open_channel")

_HEADERS = 128 * 1024  # what a record may take beside its largest message: others, topics
_TOPICS = 65536  # how many topics are remembered as checked
_EVERYONE = int(Flag.EVERYONE)
_DELAY = 0.02  # seconds that the receipt of a reply may wait for something to travel with
_UNBOUNDED = 2**62  # the bus bounds what it queues itself: see MemberCore and Seat


class BusClient:
    """One opened channel on the bus."""

    def __init__(self, member: OwnMember, *, hosts: bool, timeout: float | None) -> None:
        self.member = member
        self.limits: Limits = member.limits
        """Those that hold: of ``max_message``, what the host takes where that is less."""
        self.loop = asyncio.get_running_loop()
        member.join(bus=True)
        linked = copy.copy(member)
        linked.limits = member.limits.replace(
            max_message=min(member.limits.max_message + _HEADERS, 2**31),
            outbox=_UNBOUNDED,
        )
        self._host = BrokerHost(linked) if hosts else None
        self._link = Link(linked, SERVICE, self, self._host, timeout, carries=False)
        self._io = self._link.io
        self._inbox, self._outbox = self._link.session.inbox, self._link.session.outbox
        info = MemberInfo(member.id, os.getpid(), member.labels)
        self.core = MemberCore(info, self._outbox, self)
        self.row = self.core.row
        self.plain: str | None = None
        """The topic, this one object, to which bytes may be appended to the row while it gives
        credit; None: to none."""
        self.epoch: int = 0
        self.takeovers: int = 0
        self.host = b""
        """Whose broker it is connected to, or was last."""
        self.error: ChannelError | None = None
        self.connected = False
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._scheduled = False
        self.requests = Requests(self)
        self._touched: dict[Subscription | Replies, None] = {}  # in the order of what came
        self.watches: set[Watch] = set()
        """Those that are told who comes and goes."""
        self._on_end: set[Callable[[ChannelError], None]] = set()
        self._leaving: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._due = 0
        """How many records of this session are to be acknowledged without waiting for more."""
        self._topics: dict[str, bytes] = {}
        self.fair = fair_share(member.limits)
        self.room = self.fair
        """Bytes that may be published before somebody looks whether that is still in order."""
        self.turns = Turns(self)
        self.waiting = Waiting(self)
        self.missed = 0
        """Counts the messages that subscriptions of this member have lost."""
        self._io.user = self
        fork.watch(self)
        self._link.start()

    @property
    def name(self) -> str:
        """The channel's name."""
        return self.member.files.name

    @property
    def state(self) -> str:
        """``"connecting"``, ``"connected"`` or ``"closed"``."""
        if self.error is not None:
            return "closed"
        return "connected" if self.connected else "connecting"

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the broker now."""
        return self._host is not None and self._host.hosting

    @property
    def broker_host(self) -> BrokerHost | None:
        """What hosts the broker here when elected; None when this member does not."""
        return self._host

    # --- what the link tells ---------------------------------------------------------------

    def link_connected(self, welcome: Welcome, uid: int) -> None:
        """See ``LinkOwner``."""
        if self.host and welcome.epoch != self.epoch:
            self.takeovers += 1
        self.epoch = welcome.epoch
        self.host = welcome.member
        self.connected = True
        self.waiting.wake()

    def link_lost(self, reason: str) -> None:
        """See ``LinkOwner``."""
        self.connected = False

    def link_ended(self, error: ChannelError | None) -> None:
        """See ``LinkOwner``."""
        self._finish(error or ChannelClosed(name=self.name, reason=CLOSED_HERE))

    def link_cancelled(self) -> None:
        """See ``LinkOwner``."""
        if self.error is None:  # else this is a forked child, and all belongs to the parent
            self._fail(ChannelClosed(name=self.name, reason=LOOP_ENDED))
            self._let_go()

    # --- what the session tells ------------------------------------------------------------

    def opened(self) -> None:
        """See ``SessionUser``."""
        self._due = 0
        own, taken = self.member.limits, max(0, self._outbox.max_message - _HEADERS)
        self.limits = own.replace(max_message=min(own.max_message, taken))
        before, self.fair = self.fair, fair_share(self.limits)
        if self.fair < before:
            self.close_room()  # what may follow on credit may be too much for this host
        try:
            self.core.opened()
        except MessageTooLarge as error:
            self.outgrown(error)

    def received(self, *, arrived: bool, acknowledged: bool) -> None:
        """See ``SessionUser``: of acknowledgements, only what the broker says counts."""
        if not arrived:
            return
        self._scheduled = True  # what is said while this is looked at leaves at its end
        try:
            self._take_all()
            self._wake_touched(now=True)
        finally:
            self._scheduled = False
        core, session = self.core, self._link.session
        core.flush()
        if core.eager:
            core.eager = False
            self._due = session.inbox.consumed()
        # Until that is written: the connection may not take anything at this moment.
        session.patience = 0 if session.inbox.acked < self._due else PATIENCE
        if core.owes and self._alarm is None:
            self._alarm = self.loop.call_later(_DELAY, self._settle_debts)
        core.owes = False

    def _take_all(self) -> None:
        messages, receive = self._inbox.messages, self.core.receive
        while messages:
            receive(messages.popleft())

    def attached(self) -> None:
        """See ``SessionUser``."""

    def _wake_touched(self, *, now: bool) -> None:
        touched, self._touched = self._touched, {}
        for waits in touched:
            waits.wake(now=now)

    def over(self) -> None:
        """See ``SessionUser``."""
        self._take_all()
        self._wake_touched(now=False)

    def _settle_debts(self) -> None:
        # What was received and not answered by anything since is acknowledged now.
        self._alarm = None
        self._due = self._link.session.inbox.consumed()
        self._link.session.patience = 0
        self._flush()

    def touched(self, waits: Subscription | Replies) -> None:
        """Something has arrived for it: it is woken once all that has come is looked at."""
        self._touched[waits] = None

    # --- what the core tells ---------------------------------------------------------------

    def joined(self, member: MemberInfo) -> None:
        """See ``MemberUser``."""
        self._tell("joined", member)
        self.waiting.wake()

    def left(self, member: MemberInfo) -> None:
        """See ``MemberUser``."""
        self._tell("left", member)

    def has_room(self) -> None:
        """See ``MemberUser``."""
        self.waiting.wake()
        self.turns.look()

    def _tell(self, kind: Literal["joined", "left"], member: MemberInfo) -> None:
        if self.watches:
            change = MemberChange(kind, self._member(member, listener_host(self.member.files)))
            for watch in list(self.watches):
                watch.put(change)

    def when_ended(self, callback: Callable[[ChannelError], None]) -> Callable[[], None]:
        """Call back when the bus is closed; returns what takes that back."""
        self._on_end.add(callback)
        return lambda: self._on_end.discard(callback)

    def run(self, callback: Callable[[], None]) -> None:
        """Call back in the loop's thread: now, where this is it, else soon."""
        if threading.get_ident() == self._thread:
            callback()
        else:
            self.loop.call_soon_threadsafe(callback)

    # --- writing ---------------------------------------------------------------------------

    def schedule(self) -> None:
        """What was said in this turn of the loop leaves at its end."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self.error is None:
            self.core.flush()
            self._io.flush()

    def check_open(self) -> None:
        """Raise what closed the channel, if it is closed."""
        if self.error is not None:
            raise self.error.again()

    def check_usable(self) -> None:
        """The same, and ForeignThread in another thread than the loop's."""
        fork.notice()
        self.check_open()
        self._thread = check_thread(self._thread, self.loop)

    def subscribe(self, make: Callable[[int], Interest]) -> Interest:
        """Begin a subscription."""
        self.check_open()
        interest = self.core.subscribe(make)
        self.schedule()
        return interest

    def open_room(self) -> None:
        """Let so much be published before somebody looks again."""
        self.row.used()
        self.room = self.fair

    def close_room(self) -> None:
        """Let whoever publishes look first."""
        self.room = self.row.credit = 0

    def publish(self, topic: str, data: object) -> None:
        """Publish one message; see ``Channel.publish_nowait()``."""
        known = self._topics.get(topic)
        if type(data) is bytes:
            body, flags = data, 0
        else:
            body, encoded = codec.encode(data, topic)
            flags = ENCODED if encoded else 0
        size = len(body) + OVERHEAD
        row = self.row
        if known is row.topic and flags == row.flags and size < row.credit:
            row.bodies.append(body)
            row.credit -= size
            return
        if row.topics and known is not None and flags == row.flags:
            size += len(known) + NAMED
            if size < row.credit:
                row.bodies.append(body)
                row.topics.append(known)
                row.credit -= size
                return
        if known is None:
            known = self._check_topic(topic)
        self._take_room(len(body))
        self.core.publish(known, body, flags, self.room)
        self.plain = None if flags or row.topics else topic
        if not self._scheduled:
            self.schedule()

    def _check_topic(self, topic: str) -> bytes:
        if len(self._topics) >= _TOPICS:
            self._topics.clear()
        known = self._topics[topic] = check_topic(topic).encode()
        return known

    def _take_room(self, size: int) -> None:
        self.check_usable()
        self.room -= self.row.used()
        cost = size + OVERHEAD
        if cost > LARGE:
            self._check_size(size)
            cost = SEAL  # no time is spent on its bytes here: some of them may leave together
            if self.core.backlog + size > self.limits.drain:
                self.room = 0
        elif cost >= self.room:
            self._check_size(size)
            self.room = max(self.room, size + 1)
        self.room -= cost

    def _check_size(self, size: int) -> None:
        limits = self.limits
        limits.check_message(size)
        if self.core.backlog and self.core.backlog + size > limits.outbox:
            raise OutboxFull(size=self.core.backlog, limit=limits.outbox)

    def outgrown(self, error: MessageTooLarge) -> None:
        """A message was published already that this host does not take: the channel is closed."""
        self._finish(MessageTooLarge(size=error.size, limit=self.limits.max_message))

    def request(self, topic: str, data: object, to: bytes, everyone: bool, waits: Awaiting) -> int:
        """Send a request; returns its number. Raises what ``publish()`` does."""
        known = self._topics.get(topic) or self._check_topic(topic)
        body, encoded = codec.encode(data, topic)
        self._take_room(len(body))
        flags = (ENCODED if encoded else 0) | (_EVERYONE if everyone else 0)
        number = self.core.request(known, to, body, flags, waits)
        if not self._scheduled:
            self.schedule()
        return number

    def cancel(self, number: int) -> None:
        """Nobody waits for the reply to this request any more; again is harmless."""
        if self.core.cancel(number):
            self.schedule()

    # --- who is here, and how it goes ------------------------------------------------------

    def members(self) -> list[Member]:
        """See ``Channel.members``."""
        self.check_open()
        listener = listener_host(self.member.files)
        return [self._member(info, listener) for info in self.core.roster.values()]

    def _member(self, info: MemberInfo, listener: str) -> Member:
        member = info.id.hex()
        hosting = {"broker"} if info.id == self.host and self.connected else set[str]()
        if member == listener:
            hosting.add("listener")
        return Member(member, info.pid, frozenset(hosting), dict(info.labels))

    def stats(self) -> Stats:
        """See ``Channel.stats()``."""
        self.check_open()
        core = self.core
        subscriptions: list[Subscription] = [
            sub for sub in core.sinks() if isinstance(sub, Subscription)
        ]
        return Stats(
            epoch=self.epoch,
            takeovers=self.takeovers,
            members=len(core.roster),
            unacknowledged=core.held,
            outbox=sum(core.sizes),
            queued=sum(subscription.backlog for subscription in subscriptions),
            resent=core.resent,
            duplicates=core.duplicates,
            missed=self.missed,
            left_out=len(core.without),
            round_trip=self.waiting.round_trip,
        )

    async def wait_connected(self) -> None:
        """Wait until the broker has told who is here; raises what prevented it."""
        await self.waiting.until(lambda: bool(self.core.roster))

    # --- the end ---------------------------------------------------------------------------

    async def close(self, timeout: float | None) -> None:
        """Deliver what was published, then leave."""
        try:
            await self.deliver(timeout)
        finally:
            self.destroy()
        if self._leaving is not None:
            await asyncio.shield(self._leaving)

    async def deliver(self, timeout: float | None) -> None:
        """Wait until what was published has arrived, ``timeout`` seconds at most, or to the end.

        Who waits for a reply is told first, and waits no more.
        """
        try:
            if self.error is None:
                self.requests.failed(ChannelClosed(name=self.name, reason=CLOSED_HERE))
            if self.error is None and (self.core.held or self.core.pending):
                async with asyncio.timeout(timeout):
                    await self.waiting.arrived()
        except TimeoutError:
            _log.info("%s: left with %d bytes not acknowledged", self.name, self.core.backlog)
        except ChannelError:
            pass

    def destroy(self) -> None:
        """Leave at once; again is harmless."""
        self._finish(ChannelClosed(name=self.name, reason=CLOSED_HERE))

    def _finish(self, error: ChannelError) -> None:
        if self.error is None:
            self._io.flush()
            self._fail(error)
            self._leaving = self.loop.create_task(self._leave())
            # Whatever becomes of the task: it may be cancelled before it begins.
            self._leaving.add_done_callback(self._let_go)

    def _fail(self, error: ChannelError) -> None:
        self.error = error
        self.close_room()  # whoever publishes is told
        self.connected = False
        self._link.close()
        if self._alarm is not None:
            self._alarm.cancel()
        self.waiting.end(error)
        self.turns.end()
        for watch in list(self.watches):
            watch.end(error)
        self.requests.failed(error)
        for callback in list(self._on_end):
            callback(error)

    async def _leave(self) -> None:
        self.member.leave_bus()
        if self._host is not None:
            await self._host.hand_over()

    def _let_go(self, _: object = None) -> None:
        self.member.leave_bus()
        if self._host is not None:
            self._host.step_down(LOOP_ENDED)  # unless it is handed over
        self.member.leave()
        fork.unwatch(self)

    def forked(self) -> None:
        """In a child: see ``io.fork``."""
        self.error = ChannelForked(name=self.name, owner=self._pid)
        for sink in self.core.sinks():
            if isinstance(sink, Subscription):
                sink.forked(self.error)
        self.close_room()
        self.connected = False
