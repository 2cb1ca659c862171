"""One hosting: the broker and a session for each member, joined as ``io.host`` and ``bus.host`` do.

What differs from there: no event loop. The schedule says when something is read, when a timer
fires, and when the host looks who is alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core import records as r
from open_channel.bus.core.broker import Bounds, Broker
from open_channel.bus.core.mixed import parse_mixed
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.control import Hello, Refusal, Welcome
from open_channel.protocol.frames import Frame, Kind
from open_channel.protocol.session import Session
from open_channel.protocol.states import ACCEPTED, ConnectionState, SessionState
from tests.simulation.coverage import heard, note_heard, taken
from tests.simulation.sockets import CHUNK, GOODBYE, PING, Connection, Item, frames, take_hello

if TYPE_CHECKING:
    from tests.simulation.app import Number
    from tests.simulation.process import Process
    from tests.simulation.world import World

_GOODBYE = int(Kind.GOODBYE)
_STREAM = frozenset({int(Kind.MESSAGES), int(Kind.END)})
_ACCEPTED = ACCEPTED[ConnectionState.OPEN]
_TRUST = 0.5  # seconds for which a fence check is trusted before something is read


class Guest:
    """A member's session at its host: see ``io.guest``."""

    def __init__(self, hosting: Hosting, hello: Hello) -> None:
        self.member = hello.member
        self.counter = 0
        self.session = Session(hosting.world.limits, hosts=False)
        self.session.outbox.agree(hello.window, hello.max_message)
        self.session.patience = hosting.world.settings.patience
        self.connection: Connection | None = None
        self.deaf = False


class Hosting:
    """The broker's host, from its election until it hands over, steps down or dies."""

    def __init__(self, world: World, process: Process, number: int, epoch: int) -> None:
        self.world = world
        self.process = process
        self.number = number
        self.epoch = epoch
        self.hosting = True
        self.name = f"host {process.name} ({number})"
        self.guests: dict[bytes, Guest] = {}
        self._fenced = world.now
        self.unseen = 0.0
        """For how long it was stopped since it looked at the clock last."""
        expected = [member.info for member in world.processes if member.present and member.listed]
        self._deadline: float | None = None
        self._stale = True
        """Whether the broker's deadline may be another than that."""
        self.told_of = {info.id: world.steps for info in expected}
        """{member: the step since which it knows of him}, where the directory was deleted."""
        self.routed: dict[Number, int] = {}
        """{message: the step in which it came}, there too."""
        limits = world.limits
        grace = max(limits.grace, 2 * limits.timeout)
        self.broker = Broker(
            expected,
            Bounds(grace=grace, lag=limits.lag, queue=limits.queue, feed=world.settings.feed),
            world.now,
            lineage=world.lineage,
            dead=[m.id for m in world.processes if not m.present and m.listed],
        )

    # --- the fence -------------------------------------------------------------------------

    def fence(self) -> bool:
        if not self.hosting:
            return False
        if self.world.now - self._fenced < _TRUST:
            return True
        return self.fence_now()

    def fence_now(self) -> bool:
        if self.hosting and self.world.holder is self:
            self.world.checks.fence_passed(self)
            self._fenced = self.world.now
            return True
        self.step_down()
        return False

    def step_down(self) -> None:
        if not self.hosting:
            return
        self.world.note(f"{self.name} steps down")
        self.ends("steps down")
        self._release()
        for guest in list(self.guests.values()):
            self._stop(guest)
            if guest.connection is not None:
                guest.connection.close_host()
            self._over(guest)
        self._drop_arrivals()

    def hand_over(self) -> None:
        """Leave in order; nobody else's process can run in between, but nothing needs that."""
        if not self.hosting:
            return
        guests = list(self.guests.values())
        for guest in guests:
            self._stop(guest)
        self.flush()
        if not self.hosting:
            return
        for guest in guests:
            if self.fence():
                self._write(guest)
        self.world.note(f"{self.name} hands over")
        self.ends("hands over")
        self._release()
        for guest in guests:
            if guest.connection is not None:
                guest.connection.down.write(GOODBYE)
                guest.connection.close_host(at_once=False)
            self._over(guest)
        self._drop_arrivals()

    def close(self) -> None:
        """The process ends: what was not written will not be."""
        for connection in self.world.connections_to(self):
            connection.close_host()

    def ends(self, how: str) -> None:
        """Note how its term ends."""
        state = "settled" if self.broker.settled else "expecting"
        taken["HOSTING", state, how, "over"] += 1

    def _release(self) -> None:
        self.hosting = False
        if self.world.holder is self:
            self.world.holder = None

    def _drop_arrivals(self) -> None:
        for connection in self.world.connections_to(self):
            if connection.guest is None:
                connection.close_host()

    # --- sessions --------------------------------------------------------------------------

    def _stop(self, guest: Guest) -> None:
        guest.deaf = True
        guest.session.inbox.stop()

    def _gone(self, guest: Guest) -> None:
        """The member has left or is dead."""
        guest.session.inbox.ended = True
        if guest.connection is not None:
            guest.connection.close_host(at_once=False)
        self._over(guest)

    def _over(self, guest: Guest) -> None:
        if self.guests.get(guest.member) is guest:
            del self.guests[guest.member]
        guest.connection = None
        guest.session.close()
        self._take_in(guest)
        self.broker.acknowledged(guest.member, self.world.now)
        if not self.hosting:
            return
        seat = self.broker.seats.get(guest.member)
        # A session that was never begun, since its welcome was lost, says nothing of its member.
        begun = seat is not None and seat.outbox is guest.session.outbox
        if begun or not self.world.is_present(guest.member):
            self.broker.left(guest.member, self.world.now)
            self.flush()

    def _lost(self, guest: Guest) -> None:
        if guest.connection is not None:
            guest.connection.close_host()
            guest.connection = None
            guest.session.lost()

    def _admit(self, connection: Connection, hello: Hello) -> bool:
        if not self.fence_now():
            connection.close_host()
            return False
        guest = self.guests.get(hello.member)
        if guest is not None and hello.counter <= guest.counter:
            connection.down.write(Refusal("stale", "an earlier connection"))
            connection.close_host(at_once=False)
            return False
        resumed = guest is not None and hello.hosting == self.number
        if guest is None or not resumed:
            if guest is not None:
                self._gone(guest)
            guest = self.guests[hello.member] = Guest(self, hello)
        guest.counter = hello.counter
        self._lost(guest)
        try:
            guest.session.welcomed(self.number, hello.received, resumed=resumed)
        except RemoteProtocolError:
            if self.world.is_present(hello.member):
                raise
            # The hellos of a dead member, read late: its session had ended before them.
            connection.close_host()
            self._gone(guest)
            return False
        guest.connection = connection
        connection.guest = guest
        how = "resumes" if resumed else "opens"
        self.world.note(f"{self.name}: {connection.member.name} {how} its session")
        self.world.checks.welcomes(self)
        connection.down.write(
            Welcome(
                hosting=self.number,
                epoch=self.epoch,
                member=self.process.id,
                pid=0,
                resumed=resumed,
                received=guest.session.inbox.received,
                window=self.world.limits.window,
                max_message=self.world.limits.max_message,
            )
        )
        if self.fence():
            self._write(guest)
        if resumed:
            self.broker.acknowledged(guest.member, self.world.now)
        return True

    # --- reading ---------------------------------------------------------------------------

    def read(self, connection: Connection, count: int) -> None:
        """Some frames of a connection are read, or its end."""
        self._stale = True
        items = connection.up.take(count)
        if not items:
            guest = connection.guest
            connection.close_host()
            if guest is not None and guest.connection is connection:
                self._lost(guest)
                self.look(guest)
            return
        if connection.guest is None and not self._admit(connection, take_hello(items)):
            return
        guest = connection.guest
        if items and guest is not None:
            self._receive(guest, items)

    def _receive(self, guest: Guest, items: list[Item]) -> None:
        """See ``SessionIO.frames_received()``."""
        if not self.fence():
            return
        inbox, outbox = guest.session.inbox, guest.session.outbox
        arrived = acknowledged = left = False
        for item in items:
            assert isinstance(item, Frame)
            kind = item.kind
            assert kind in _ACCEPTED
            heard[kind] += 1
            if kind in _STREAM:
                if not guest.deaf:
                    inbox.receive(item)
                    arrived = True
            elif kind == _GOODBYE:
                left = True
            if outbox.acknowledge(item.ack):
                acknowledged = True
        if acknowledged:
            self.broker.acknowledged(guest.member, self.world.now)
        if arrived:
            self._take_in(guest)
        if arrived or acknowledged:
            self.flush()
        self._write(guest)
        if left:
            self.world.note(f"{self.name}: {self.world.name_of(guest.member)} says goodbye")
            self._gone(guest)

    def _take_in(self, guest: Guest) -> None:
        messages, outbox, world = guest.session.inbox.messages, guest.session.outbox, self.world
        broker, member = self.broker, guest.member
        while messages:
            record = bytes(messages.popleft())
            if world.traced:
                world.heard(self, member, record)
            if world.wiped:
                self._note(record)
            note_heard(broker, member, record)
            broker.received(member, outbox, record, world.now)

    def _note(self, record: bytes) -> None:
        """What a host knows, where the directory was deleted, it knows from what it was told."""
        if record[0] in {r.PUBLISH, r.DIRECT, r.MIXED}:
            publication = parse_mixed(record) if record[0] == r.MIXED else r.parse(record)
            strangers = {one.id for one in self.world.processes if one.id not in self.told_of}
            for seq in range(publication.first, publication.last + 1):
                number = publication.sender, seq
                if number not in self.routed:
                    self.routed[number] = self.world.steps
                    # Who then gets a later one gets this one from no other host either.
                    self.world.strangers.setdefault(number, set()).update(strangers)
        elif isinstance(said := r.decode_control(record), r.Snapshot):
            for info in (said.info, *said.roster):
                self.told_of.setdefault(info.id, self.world.steps)

    # --- writing ---------------------------------------------------------------------------

    def flush(self) -> None:
        """See ``BrokerService.flush()``."""
        seats = self.broker.flush()
        if not seats or not self.fence_now():
            return
        for seat in seats:
            guest = self.guests.get(seat.member)
            if guest is not None and guest.connection is not None and self.fence():
                self._write(guest)

    def writable(self, connection: Connection) -> None:
        """There is room in the kernel again."""
        connection.down.pump()
        guest = connection.guest
        if guest is not None and guest.connection is connection and self.fence():
            self._write(guest)

    def _write(self, guest: Guest) -> None:
        connection = guest.connection
        if connection is None:
            return
        while not connection.down.paused and (parts := guest.session.transmit(CHUNK)):
            connection.down.write(*frames(parts))
            if self.world.holder is not self:
                self.world.checks.writes(self, guest)
            if not guest.session.outbox.sendable:
                return

    @property
    def missing(self) -> list[bytes]:
        """Whose connection the host waits for."""
        parked = [guest.member for guest in self.guests.values() if guest.connection is None]
        if len(self.broker.seats) == len(self.guests):
            return parked
        return self._unheard() + parked

    # --- timers ----------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        if self._stale:  # it is asked for all the time
            self._stale = False
            self._deadline = self.broker.deadline
        return self._deadline is not None and self._deadline <= self.world.now

    def beat(self) -> None:
        """See ``Host._beat()``."""
        if self.fence_now():
            for guest in self.guests.values():
                if guest.connection is not None and not guest.connection.down.paused:
                    guest.connection.down.write(PING)

    def tick(self) -> None:
        """See ``BrokerService._tick()``."""
        self._stale = True
        if self.hosting:
            unseen, self.unseen = self.unseen, 0.0
            self.broker.tick(self.world.now, unseen)
            self.flush()

    def look(self, only: Guest | None = None) -> None:
        """Who of those without a connection is dead?"""
        self._stale = True
        for guest in [only] if only is not None else list(self.guests.values()):
            if guest.connection is None and guest.session.state is not SessionState.CLOSED:
                if not self.fence_now():
                    return
                if not self.world.is_present(guest.member):
                    self._gone(guest)
        if only is not None or not self.hosting:
            return
        for member in self._unheard():
            if not self.world.is_present(member):
                self.broker.left(member, self.world.now)
                self.flush()

    def _unheard(self) -> list[bytes]:
        """Who has not come back: no session, whose end would tell."""
        seats = self.broker.seats.values()
        return [s.member for s in seats if s.outbox is None and s.member not in self.guests]
