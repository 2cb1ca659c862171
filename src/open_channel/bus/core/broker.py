"""The broker: takes publications in, hands them on, and acknowledges what has arrived everywhere.

A publication is routed once. Its publisher is told that it is done when every subscriber has
received it, every job of it is done, and nobody is *expected* any more: a new host expects each
member that is alive until it has come back, since only members know what they subscribed to and
have in hand. What is routed meanwhile is logged, and played to each one that returns.

Members that stay out of touch for longer than a limit are *released*: publishers are acknowledged
without them, and told so, and they learn of it when they come back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from open_channel.bus.core import figures
from open_channel.bus.core import records as r
from open_channel.bus.core.news import News
from open_channel.bus.core.routing import Routing
from open_channel.bus.core.seat import NOTHING, Entry, Seat, Subscription
from open_channel.bus.core.vetting import Vetting, vet_subscriptions
from open_channel.errors import RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from open_channel.bus.core.mixed import AnyPublication
    from open_channel.bus.core.records import MemberInfo
    from open_channel.bus.core.seat import Receipt
    from open_channel.protocol.batches import Message
    from open_channel.protocol.outbox import Outbox

__all__ = ["Bounds", "Broker"]

_REQUEST, _EVERYONE = int(r.Flag.REQUEST), int(r.Flag.EVERYONE)
_REPLY, _DONE = int(r.Flag.REPLY), int(r.Flag.DONE)
_PUBLICATIONS = frozenset({r.PUBLISH, r.DIRECT, r.MIXED})
_UNTOLD = 16 * 1024 * 1024  # bytes of control records that wait for one who goes on talking


class Bounds(NamedTuple):
    """The limits of one broker, in seconds and bytes."""

    grace: float
    """How long a new host waits for members that are alive."""
    lag: float
    """How long a publication may wait for a subscriber to receive it."""
    queue: int
    """How much is kept for a member that is out of touch."""
    feed: int
    """How much is handed to a member's session at a time. A member need not acknowledge at once
    before a quarter of the window is used up, so with less than that both might wait for ever."""
    record: int = 1 << 31
    """The largest publication that is taken in: less than a session takes, by what makes one of its
    messages a job."""


class _Logged(NamedTuple):
    """A publication routed while members were expected."""

    publication: AnyPublication
    entry: Entry
    groups: set[str]


class Broker:
    """The broker of one hosting."""

    def __init__(
        self,
        expected: Iterable[MemberInfo],
        bounds: Bounds,
        now: float,
        *,
        lineage: int = 0,
        dead: Collection[bytes] = (),
    ) -> None:
        self.seats: dict[bytes, Seat] = {}
        self.expected: set[Seat] = set()
        """Who is alive and has not come back yet."""
        self.dirty: dict[Seat, None] = {}
        """Who has something to be written; whose it is first, before whom it is acknowledged to."""
        self.bounds = bounds
        self.now = now
        self.routed = 0
        """Counts the messages taken in."""
        self.dropped = 0
        """Counts the messages dropped for members that were out of touch."""
        self.bytes = 0
        self._lineage = lineage
        """Of the lock file. A roster of another tells who is alive: the directory was deleted
        meanwhile, so the files of those who have not come back yet cannot."""
        self._dead = set(dead)
        self._deadline = now + bounds.grace
        self._vetting = Vetting(bounds.record)
        self.routing = Routing(self)
        self._log: list[_Logged] = []
        self._news = News(self.seats, self.dirty, lineage)
        self.absent: set[Seat] = set()
        """Who is alive and has not come back within the grace."""
        self.expected.update(self._seat(info) for info in expected)
        if not self.expected:
            self._settle()

    @property
    def news_due(self) -> float:
        """When members are to be told who has come meanwhile."""
        return self._news.due

    @property
    def newcomers(self) -> bool:
        """Whether somebody has come, and not been told yet who is here."""
        return bool(self._news.newcomers)

    @property
    def settled(self) -> bool:
        """Whether nobody is expected any more."""
        return not self.expected

    # --- members come and go ---------------------------------------------------------------

    def received(self, member: bytes, outbox: Outbox, record: Message, now: float) -> None:
        """A member says something; raises RemoteProtocolError when it makes no sense."""
        self.now = now
        kind = record[0] if record else 0
        seat = self.seats.get(member)
        if seat is None or seat.outbox is not outbox:
            control = r.decode_control(record) if kind == r.CONTROL else None
            if not isinstance(control, r.Snapshot) or control.info.id != member:
                raise RemoteProtocolError(reason="a session that does not begin with a snapshot")
            self._open(member, outbox, control)
        elif seat.untold > _UNTOLD:
            raise RemoteProtocolError(reason=f"{seat.untold} bytes of answers are not read")
        elif kind in _PUBLICATIONS:
            self._publish(seat, kind, record)
        elif kind == r.CONTROL:
            self._command(seat, r.decode_control(record))
        else:
            raise RemoteProtocolError(reason=f"a record of unknown kind {kind}")

    def _open(self, member: bytes, outbox: Outbox, snapshot: r.Snapshot) -> None:
        vet_subscriptions(snapshot.subscriptions, ())
        seat = self.seats.get(member)
        if seat is None:
            seat = self._seat(snapshot.info)
            self._news.add(seat)
        elif seat.outbox is not None:
            raise RemoteProtocolError(reason="a member with two sessions")
        seat.info = snapshot.info
        seat.known_done = set(snapshot.done)
        if snapshot.lineage != self._lineage and self.now < self._deadline and snapshot.roster:
            self._expect(seat, snapshot.roster)
        waiting, seat.queue = seat.queue, deque()
        seat.queued = seat.untold = 0
        seat.outbox = outbox
        self.absent.discard(seat)
        self._adopt(seat, snapshot.without)
        for other in self.seats.values():
            if seat.member in other.without:
                self._gap(other, seat)
        add = self.routing.add
        subscriptions = [add(seat, record, back=True) for record in snapshot.subscriptions]
        for job in snapshot.jobs:
            self.routing.report(seat, job)
        self.routing.refresh(seat)
        self._replay(seat, subscriptions)
        self.routing.jobs.take_reports(seat)
        for queued, receipt, topic, count in waiting:
            seat.send(queued, self.now, receipt, topic, count)
        if seat not in self._news.newcomers:
            self.control(seat, self._news.roster())
        for record in snapshot.subscriptions:
            if not record.confirmed:
                self.control(seat, r.Confirmed(record.id))
        self._whole(seat)

    def _seat(self, info: MemberInfo) -> Seat:
        seat = self.seats[info.id] = Seat(info.id, info, self.bounds.feed)
        return seat

    def _expect(self, seat: Seat, roster: list[MemberInfo]) -> None:
        """Whom one knows who has been with another host; and itself, until it has told all."""
        self.expected.add(seat)
        known = self.seats.keys() | self._dead
        if more := {info.id: info for info in roster if info.id not in known}:
            self.expected.update(map(self._seat, more.values()))
            # The next host must ask everybody too, even those who were back here.
            self._news.now_whole(False, self.now)

    def _adopt(self, seat: Seat, without: dict[bytes, int]) -> None:
        """What earlier hosts acknowledged to this publisher without somebody."""
        for member, seq in without.items():
            absent = self.seats.get(member)
            if absent is not None:
                seat.leave_out(member, seq)
                if absent.outbox is not None and absent is not seat:
                    self._gap(seat, absent)
        seat.without_changed = seat.without != without

    def _gap(self, publisher: Seat, seat: Seat) -> None:
        """Tell a member what was acknowledged without it, and forget that when it knows."""
        seq = publisher.without[seat.member]
        self.control(seat, r.Gap(publisher.member, seq), _Told(self, publisher, seat, seq))

    def _replay(self, seat: Seat, subscriptions: list[Subscription]) -> None:
        if not self._log:
            return
        owed = self.routing.owed(subscriptions)
        for logged in self._log:
            publication, entry = logged.publication, logged.entry
            if publication.to == seat.member:
                self.deliver(seat, publication, entry)
            elif publication.to == r.NOBODY:
                self.routing.replay(seat, owed, publication, entry, logged.groups)

    def left(self, member: bytes, now: float) -> None:
        """A member is dead, or has left in order."""
        self.now = now
        if now < self._deadline:
            self._dead.add(member)
        seat = self.seats.get(member)
        if seat is None:
            return
        if seat in self._news.newcomers:
            self._news.tell(now)
        del self.seats[member]
        for subscription in list(seat.subscriptions.values()):
            self.routing.remove(subscription)
        self.routing.jobs.died(seat)
        self.absent.discard(seat)
        seat.forget()
        for logged in self._log:
            if logged.publication.to == member:
                self._unreachable(logged.publication, logged.entry)
        for other in self.seats.values():
            if member in other.gaps or member in other.without:
                other.gaps.pop(member, None)
                other.without.pop(member, None)
                other.without_changed = True
            self.control(other, r.Left(member))
        self.dirty.pop(seat, None)
        self._returned(seat)

    def _returned(self, seat: Seat) -> None:
        """Somebody who was expected has told all, or never will."""
        if seat in self.expected:
            self.expected.discard(seat)
            if not self.expected:
                self._settle()

    def _settle(self) -> None:
        log, self._log = self._log, []
        for logged in log:
            publication, entry = logged.publication, logged.entry
            target = self.seats.get(publication.to)
            if target is not None and target.outbox is None:
                # It is absent: this waits for it.
                self.deliver(target, publication, entry)
            for absent in self.seats.values():
                if absent.outbox is None and publication.to in {r.NOBODY, absent.member}:
                    self._leave_out(entry.seat, absent, entry.last)
        self.routing.settle([(logged.publication, logged.entry) for logged in log])
        for logged in log:
            logged.entry.received()
        self.absent = {seat for seat in self.seats.values() if seat.outbox is None}
        self._news.now_whole(True, self.now)
        for seat in self.seats.values():
            if seat.back:
                seat.known_done.clear()

    # --- publications ----------------------------------------------------------------------

    def _publish(self, seat: Seat, kind: int, record: Message) -> None:
        publication = self._vetting.publication(kind, record, seat.member)
        if publication.first <= seat.routed:
            return
        if seat in self._news.newcomers:
            self._news.tell(self.now)  # nobody hears of it before he hears that it has come
        seat.routed = publication.last
        self.routed += publication.total
        self.bytes += len(record)
        if publication.flags & _REQUEST and figures.answered(self, seat, publication):
            return
        stays = bool(publication.flags & (_REPLY | _DONE))
        entry = Entry(self, seat, publication.first, publication.last, stays=stays)
        seat.undone += 1
        groups: set[str] = set()
        if not self.settled:
            entry.waiting += 1
            self._log.append(_Logged(publication, entry, groups))
        if kind == r.DIRECT:
            self._direct(publication, entry)
        else:
            self.routing.publish(publication, entry, groups)
        for absent in self.absent:
            if publication.to == r.NOBODY:
                self._leave_out(seat, absent, entry.last)
        entry.received()

    def _direct(self, publication: AnyPublication, entry: Entry) -> None:
        if publication.flags & (_REPLY | _DONE):
            self.routing.ends(publication)
        target = self.seats.get(publication.to)
        if target is None or (publication.flags & _REQUEST and self.is_full(target)):
            self._unreachable(publication, entry)
        elif target.outbox is not None or self.settled:
            self.deliver(target, publication, entry)

    def _unreachable(self, publication: AnyPublication, entry: Entry) -> None:
        if publication.flags & _REQUEST and entry.seat.member in self.seats:
            self.control(entry.seat, r.Ended(publication.first, r.End.GONE))

    def deliver(
        self, seat: Seat, publication: AnyPublication, entry: Entry, *, keep: bool = False
    ) -> None:
        """Queue a publication for a subscriber; ``keep`` says that it must not be dropped."""
        keep = keep or publication.to != r.NOBODY or bool(publication.flags & _REQUEST)
        topic = "" if keep else publication.topic
        self.dirty[seat] = None
        if not seat.released or entry.stays:
            entry.waiting += 1
            seat.send(publication.record, self.now, entry, topic, publication.total)
            return
        self._leave_out(entry.seat, seat, entry.last)
        seat.send(publication.record, self.now, NOTHING, topic, publication.total)
        if seat.queued > self.bounds.queue:
            self._bound(seat)

    def _bound(self, seat: Seat) -> None:
        self.dropped += seat.bound(self.bounds.queue)
        seat.pump(self.now)  # it is told, also where nothing is left that it could go before
        self.dirty[seat] = None

    def is_full(self, seat: Seat) -> bool:
        """Whether a member that is out of touch takes no more requests; those are not dropped."""
        return seat.released and seat.queued > self.bounds.queue

    def _leave_out(self, publisher: Seat, seat: Seat, seq: int) -> None:
        publisher.leave_out(seat.member, seq)
        self.dirty[publisher] = None

    def progressed(self, entry: Entry) -> None:
        """See ``Completes``."""
        seat = entry.seat
        if self.seats.get(seat.member) is not seat:
            return
        if not entry.waiting:
            seat.undone -= 1
            if not entry.answered:
                seat.acks.append((entry.first, entry.last))
            self.dirty[seat] = None  # also for its gaps: see flush()
        elif entry.jobs == entry.waiting and not entry.told:
            entry.told = True
            seat.told_jobs.append(entry.first)
            self.dirty[seat] = None

    # --- commands --------------------------------------------------------------------------

    def _command(self, seat: Seat, record: r.Control) -> None:
        match record:
            case r.Subscribe():
                vet_subscriptions([record], seat.subscriptions)
                self.routing.add(seat, record)
                self.control(seat, r.Confirmed(record.id))
            case r.Unsubscribe(number, kept):
                subscription = seat.subscriptions.get(number)
                if subscription is not None:
                    self.routing.remove(subscription, set(kept))
            case r.Reject(publisher, seq, group, turn):
                self.routing.jobs.reject(seat, (publisher, seq, group), turn)
            case r.Took(number, publisher, seq):
                if (subscription := seat.subscriptions.get(number)) is not None:
                    subscription.took(publisher, seq)
            case r.Cancel(seq):
                self.routing.cancel(seat, seq)
            case r.Resent():
                seat.back = True
                if self.settled:
                    seat.known_done.clear()  # else what is in the log may yet be shared out
                self.routing.jobs.forget_reports(seat)
                self._returned(seat)
            case _:
                raise RemoteProtocolError(reason=f"{type(record).__name__} from a member")

    def control(self, seat: Seat, record: r.Control, receipt: Receipt | None = None) -> None:
        """Queue a control record."""
        self.dirty[seat] = None
        seat.control(record, self.now, receipt)

    # --- receipts --------------------------------------------------------------------------

    def acknowledged(self, member: bytes, now: float) -> None:
        """A member's session has acknowledged something."""
        self.now = now
        seat = self.seats.get(member)
        if seat is None or seat.outbox is None:
            return
        if seat.owed or seat.queue:
            seat.receipts(now)
            self.dirty[seat] = None
        if seat.released:
            self._whole(seat)

    def _whole(self, seat: Seat) -> None:
        """A released member has everything again: it holds acknowledgements as before."""
        if not seat.released or seat.queue or seat.owed or seat.unaware:
            return
        seat.released = False
        for other in self.seats.values():
            if seat.member in other.without:
                del other.without[seat.member]
                other.without_changed = True
                self.dirty[other] = None
        self.routing.refresh(seat)

    def tick(self, now: float, unseen: float = 0.0) -> None:
        """Release those who have been out of touch for too long.

        For ``unseen`` seconds this host itself stood still, and may not have read yet what came.
        """
        self.now = now
        if self.expected:
            self._deadline += unseen
        for seat in self.seats.values():
            if unseen:
                seat.pardon(unseen, now)
            if seat.is_late(now, self.bounds.lag):
                self._release(seat)
        if self.expected and now >= self._deadline:
            for seat in self.expected:
                seat.released |= seat.outbox is None
            self.expected.clear()
            self._settle()

    @property
    def deadline(self) -> float | None:
        """When ``tick()`` is due; None while nobody owes anything."""
        due = self._deadline if self.expected else None
        if self.newcomers:
            due = self._news.due if due is None else min(due, self._news.due)
        for seat in self.seats.values():
            if (since := seat.awaited_since) is not None:
                when = since + self.bounds.lag
                due = when if due is None else min(due, when)
        return due

    def _release(self, seat: Seat) -> None:
        seat.released = True
        self.routing.jobs.take_back(seat)
        for publisher, seq in seat.owed_from().items():
            self._leave_out(publisher, seat, seq)
        seat.let_go()  # it is whole again when it has received all that is on its way now
        self._bound(seat)

    # --- what leaves -----------------------------------------------------------------------

    def flush(self) -> list[Seat]:
        """Queue the acknowledgements; returns whose session has something to write."""
        if self.now >= self._news.due:
            self._news.tell(self.now)
        out: list[Seat] = []
        for seat in self.dirty:
            if seat.without_changed:
                seat.without_changed = False
                seat.control(r.Without(seat.left_out()), self.now)
            if seat.told_jobs:
                for first in seat.told_jobs:
                    seat.control(r.Taking(first), self.now)
                seat.told_jobs.clear()
            if seat.acks:
                seat.send(r.encode_ack(seat.take_acks()), self.now)
            if seat.gaps and not seat.undone:
                seat.gaps.clear()
                seat.control(r.Without(dict(seat.without)), self.now)
            outbox = seat.outbox
            if outbox is not None and (outbox.pending or outbox.unsent):
                out.append(seat)
        self.dirty.clear()
        return out


class _Told:
    """When a member knows of a gap, the publisher need not remember it for it."""

    def __init__(self, broker: Broker, publisher: Seat, seat: Seat, seq: int) -> None:
        self._broker = broker
        self._publisher = publisher
        self._seat = seat
        self._seq = seq

    def received(self) -> None:
        """See ``Receipt``."""
        publisher, member = self._publisher, self._seat.member
        if self._broker.seats.get(publisher.member) is not publisher:
            return
        publisher.gaps[member] = max(self._seq, publisher.gaps.get(member, 0))
        if publisher.without.get(member) == self._seq and not self._seat.released:
            del publisher.without[member]
        self._broker.dirty[publisher] = None
