"""One process with one member: its link to the host and its core, joined as ``bus.client`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core.member import MemberCore
from open_channel.bus.core.records import NOBODY, Flag, MemberInfo
from open_channel.protocol.control import Hello, Welcome
from open_channel.protocol.frames import Frame, Kind
from open_channel.protocol.session import Session
from open_channel.protocol.states import ACCEPTED, ConnectionState
from tests.simulation.app import Sub, Waiting
from tests.simulation.coverage import heard, note_told
from tests.simulation.sockets import GOODBYE, Connection, Item, take_welcome, transmit

if TYPE_CHECKING:
    from tests.simulation.hosting import Hosting
    from tests.simulation.world import World

_DELAY = 0.02
_GOODBYE = int(Kind.GOODBYE)
_STREAM = frozenset({int(Kind.MESSAGES), int(Kind.END)})
_ACCEPTED = ACCEPTED[ConnectionState.OPEN]
_KEPT = 3  # connections of one member that a host may still have something to read of


class Process:
    """A process; ``world`` says when it runs."""

    def __init__(self, world: World, index: int) -> None:
        self.world = world
        self.index = index
        self.name = f"m{index}"
        self.id = (index + 1).to_bytes(16, "big")
        self.info = MemberInfo(self.id, index, {})
        self.alive = True
        """Whether it was neither killed nor has left."""
        self.present = True
        """Whether the lock on its presence file is held: a little longer than it lives."""
        self.listed = True
        """Whether that file is in the directory."""
        self.awake = True
        """Whether what it hosts runs; it may be about to leave."""
        self.paused_at: float | None = None
        self.woke_at = 0.0
        self.leaving = False
        self.loose = False
        """Whether a host has found it out of touch, and nothing says that it is in touch again."""
        self.was_loose = False
        self.session = Session(world.limits, hosts=False, carries=False)
        self.core = MemberCore(self.info, self.session.outbox, self)
        self.connection: Connection | None = None
        self.connections: list[Connection] = []
        """The last of them, which the host's side may still read."""
        self.hosting: Hosting | None = None
        self.counter = 0
        self.suspect = 0
        """The hosting that it found to be hung."""
        self.scheduled = False
        self.due = 0
        """How much is to be acknowledged to the host as soon as it can be written."""
        self.debts_due: float | None = None
        self.subs: list[Sub] = []
        self.requests: list[Waiting] = []
        self.unacked: list[int] = []
        self.confirming: list[int] = []
        """What was published last when its user began to wait for all of it to arrive."""
        self.known: set[bytes] = set()
        """Who is here, as its user was told."""

    @property
    def runs(self) -> bool:
        return self.alive and self.paused_at is None

    @property
    def hosts(self) -> bool:
        return self.hosting is not None and self.hosting.hosting

    # --- what its user does ----------------------------------------------------------------

    def publish(self, topic: str, count: int) -> None:
        for number in range(self.core.last + 1, self.core.last + 1 + count):
            self.world.checks.published(self, number, topic)
            self.unacked.append(number)
            self.core.publish(self.world.topic(topic), self.world.body(number), 0)
        self.scheduled = True

    def confirm(self) -> None:
        """Wait until everything published so far has arrived."""
        last = self.core.last
        self.confirming.append(last)

        def arrived() -> None:
            self.world.checks.acknowledged(self)
            self.world.checks.confirmed(self, last)
            self.confirming.remove(last)

        self.core.when_acknowledged(arrived)
        self.scheduled = True

    def subscribe(
        self,
        pattern: str,
        *,
        group: str = "",
        serves: bool = False,
        blocks: bool = False,
        prefetch: int = 1,
    ) -> Sub:
        sub = Sub(self, pattern, group=group, serves=serves, blocks=blocks, prefetch=prefetch)
        self.subs.append(sub)
        self.scheduled = True
        return sub

    def request(self, topic: str, to: bytes = NOBODY, *, everyone: bool = False) -> Waiting:
        waiting = Waiting(self, topic, to, everyone=everyone)
        flags = int(Flag.EVERYONE) if everyone else 0
        waiting.number = self.core.last + 1
        self.world.checks.work.requested(waiting)
        self.requests.append(waiting)
        body = self.world.body(waiting.number)
        number = self.core.request(self.world.topic(topic), to, body, flags, waiting)
        assert number == waiting.number
        self.scheduled = True
        return waiting

    def cancel(self, waiting: Waiting) -> None:
        if not waiting.over:
            waiting.over = "cancelled"
            waiting.note(waiting.over)
        self.core.cancel(waiting.number)
        self.requests.remove(waiting)
        self.scheduled = True

    def flush(self) -> None:
        """See ``BusClient._flush()``."""
        self.scheduled = False
        self.core.flush()
        self._write()

    def settle_debts(self) -> None:
        """See ``BusClient``: it may be that nothing can be written at this moment."""
        self.debts_due = None
        self.due = self.session.inbox.consumed()
        self.session.patience = 0
        self.flush()

    def say_goodbye(self) -> None:
        """The first half of ``BusClient.close()``: what was published has arrived, or not."""
        self.flush()
        self.leaving = True
        if self.connection is not None:
            if self.connection.welcomed:
                self.connection.up.write(GOODBYE)
                self.connection.close_member(at_once=False)
            else:
                self.connection.close_member()
            self.connection = None
        self.session.close()
        self.scheduled = False
        self.debts_due = None
        self.alive = False

    def crash(self) -> None:
        """It is killed. Its locks go a little later than its sockets."""
        self.alive = self.leaving = self.awake = False
        self.paused_at = None
        self.world.checks.work.loosen(self)
        for connection in self.connections:
            connection.close_member()

    def depart(self) -> None:
        """The second half: the host hands over, the lock on the presence file goes."""
        if self.hosting is not None:
            self.hosting.hand_over()
            self.hosting.close()
        for connection in self.connections:
            connection.close_member()
        self.present = self.awake = False
        self.world.freed = True

    # --- the link --------------------------------------------------------------------------

    def advance(self) -> None:
        """One round of ``Link._advance()``."""
        holder = self.world.holder
        if holder is None:
            self.world.elect(self)
        elif self.suspect == holder.number and not self.hosts:
            self.world.note(f"{self.name} deposes {holder.name}")
            self.world.elect(self)
        else:
            self._dial(holder)

    def _dial(self, holder: Hosting) -> None:
        self.listed = True  # made again, if somebody has deleted it
        self.counter += 1
        connection = self.connection = Connection(self, holder, self.world.room)
        self.connections.append(connection)
        del self.connections[:-_KEPT]
        limits = self.world.limits
        connection.up.write(
            Hello(
                service="b",
                member=self.id,
                counter=self.counter,
                hosting=self.session.hosting,
                received=self.session.inbox.received,
                window=limits.window,
                max_message=limits.max_message,
            )
        )

    def drop(self) -> None:
        """The connection is gone, or given up."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close_member()
            if connection.welcomed:
                self.session.lost()

    def watch(self) -> None:
        """The watchdog: see ``Link._check()``."""
        connection = self.connection
        assert connection is not None
        if self.world.holder is connection.hosting:
            self.suspect = connection.hosting.number
        self.drop()

    def read(self, count: int) -> None:
        """Some frames are read, or the end."""
        connection = self.connection
        assert connection is not None
        items = connection.down.take(count)
        if not items:
            self.drop()
            return
        if not connection.welcomed:
            answer = take_welcome(items)
            if answer is None:
                self.drop()
                return
            self._welcome(connection, answer)
        if items:
            self._receive(items)

    def _welcome(self, connection: Connection, welcome: Welcome) -> None:
        session = self.session
        session.welcomed(welcome.hosting, welcome.received, resumed=welcome.resumed)
        session.outbox.agree(welcome.window, welcome.max_message)
        connection.welcomed = True
        self.suspect = 0
        if welcome.resumed:
            session.patience = 0  # the last acknowledgement may have been lost
        else:
            self.due = 0
            self.core.opened()
        self._write()

    def _receive(self, items: list[Item]) -> None:
        """See ``SessionIO.frames_received()``."""
        inbox, outbox = self.session.inbox, self.session.outbox
        arrived = acknowledged = left = False
        for item in items:
            assert isinstance(item, Frame)
            kind = item.kind
            assert kind in _ACCEPTED
            heard[kind] += 1
            if kind in _STREAM:
                inbox.receive(item)
                arrived = True
            elif kind == _GOODBYE:
                left = True
            if outbox.acknowledge(item.ack):
                acknowledged = True
        if arrived:
            messages, world, receive = inbox.messages, self.world, self.core.receive
            while messages:
                record = bytes(messages.popleft())
                if world.traced:
                    world.told(self, record)
                note_told(record)
                receive(record)
                world.checks.heard(self)
        if arrived or acknowledged:
            self._told()
        self._write()
        if left:
            self.drop()

    def _told(self) -> None:
        """See ``BusClient.told()``."""
        self.scheduled = False
        core = self.core
        core.flush()
        inbox = self.session.inbox
        if core.eager:
            core.eager = False
            self.due = inbox.consumed()
        self.session.patience = 0 if inbox.acked < self.due else self.world.settings.patience
        if core.owes and self.debts_due is None:
            self.debts_due = self.world.now + _DELAY
        core.owes = False

    def writable(self) -> None:
        assert self.connection is not None
        self.connection.up.pump()
        self._write()

    def _write(self) -> None:
        connection = self.connection
        if connection is None or not connection.welcomed:
            return
        transmit(self.session, connection.up)

    # --- what the core tells: see ``MemberUser`` --------------------------------------------

    def joined(self, member: MemberInfo) -> None:
        self.world.checks.joined(self, member.id)

    def left(self, member: MemberInfo) -> None:
        self.world.checks.left(self, member.id)

    def has_room(self) -> None:
        self.world.checks.acknowledged(self)
