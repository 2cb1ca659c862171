"""A seat: one member at the broker, what it gets, and what it owes an acknowledgement for.

Records go to a member through its session's outbox. Past ``feed`` bytes they wait in the seat's
own queue, where publications can still be dropped. A member has received a record when its session
acknowledges it; ``owed`` says what depends on that.
"""

from __future__ import annotations

from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Protocol

import msgspec

from open_channel.bus.core import records as r
from open_channel.bus.core.mixed import count_topics
from open_channel.bus.core.subjects import MANY

if TYPE_CHECKING:
    from open_channel.bus.core.groups import Group, Job
    from open_channel.bus.core.interests import Key
    from open_channel.bus.core.records import MemberInfo, Subscribe
    from open_channel.protocol.batches import Message
    from open_channel.protocol.outbox import Outbox

__all__ = ["NOTHING", "Entry", "Receipt", "Seat", "Subscription"]


_AT_ONCE = 32  # topics that one record names: so many of the longest fit whatever a member takes
_COUNTED = 10_000  # topics of which is counted what a member has missed


class Receipt(Protocol):
    """What waits for a member to have received something."""

    def received(self) -> None:
        """It has, or it is not waited for any more."""


class _Nothing:
    """A receipt that nobody waits for; it counts in what a released member has to catch up."""

    def received(self) -> None:
        """See ``Receipt``."""


NOTHING = _Nothing()


class Subscription:
    """One subscription of a member; hashed by identity."""

    __slots__ = ("group", "held", "in_hand", "record", "seat")

    def __init__(self, seat: Seat, record: Subscribe) -> None:
        self.seat = seat
        self.record = record
        self.group: Group | None = None
        """The one it is in, if any."""
        self.in_hand = 0
        """How many jobs its consumer has."""
        self.held: dict[Seat, deque[Entry]] = {}
        """Of a blocking one: what its consumer has not taken, by publisher."""

    def hold(self, entry: Entry) -> None:
        """Its consumer is to take something before that is done."""
        entry.waiting += 1
        self.held.setdefault(entry.seat, deque()).append(entry)

    def took(self, publisher: bytes, seq: int) -> None:
        """Its consumer has taken all of a publisher up to a number."""
        for owner, entries in self.held.items():
            if owner.member == publisher:
                while entries and entries[0].last <= seq:
                    entries.popleft().received()
                if not entries:
                    del self.held[owner]
                return


class Entry(msgspec.Struct, eq=False):
    """A publication that its publisher has not been told is done."""

    broker: Completes
    seat: Seat
    first: int
    last: int
    stays: bool = False
    """Whether it waits for a member that is out of touch too: a reply, or jobs that are done.
    They are few, and would be asked for, or done, again."""
    waiting: int = 1
    """How much is to happen before it is done; one for being routed at all."""
    jobs: int = 0
    """How much of that is jobs."""
    told: bool = False
    """Whether its publisher knows that only jobs are left."""
    answered: bool = False
    """A request whose reply tells its publisher that it is done."""

    def received(self) -> None:
        """One of those things has happened."""
        self.waiting -= 1
        if self.waiting <= self.jobs:
            self.broker.progressed(self)


class Completes(Protocol):
    """Who is told of an entry's progress."""

    def progressed(self, entry: Entry) -> None:
        """It waits for nothing any more, or for jobs alone."""


class Seat:
    """One member; its identity is what sets and dictionaries go by."""

    __slots__ = (
        "acks",
        "back",
        "dropped",
        "feed",
        "gaps",
        "info",
        "jobs",
        "known_done",
        "member",
        "outbox",
        "owed",
        "queue",
        "queued",
        "released",
        "routed",
        "subscriptions",
        "told_jobs",
        "uncounted",
        "undone",
        "unfit",
        "untold",
        "without",
        "without_changed",
        "written",
    )

    def __init__(self, member: bytes, info: MemberInfo, feed: int) -> None:
        self.member = member
        self.info = info
        self.feed = feed
        """Bytes in its session's outbox above which records wait in the queue."""
        self.outbox: Outbox | None = None
        """Of its session; None until it has opened one with this host."""
        self.back = False
        """Whether it has told all that a new host must know."""
        self.released = False
        """Out of touch for too long: publishers are acknowledged without it."""
        self.queue: deque[tuple[Message, Receipt | None, str, int]] = deque()
        """(record, receipt, topic, messages); what has no topic is never dropped, ``MANY`` is what
        a mixed publication has."""
        self.queued = 0
        self.untold = 0
        """How much of that is control records: what it is told, not what others publish."""
        self.dropped: dict[str, int] = {}
        """{topic: messages dropped and not told yet}."""
        self.uncounted = False
        """Whether there were too many topics to be counted one by one."""
        self.written = 0
        self.unfit = 0
        """The size of a record that it should have got and does not take: its session cannot go
        on. 0 when there was none."""
        self.owed: deque[tuple[int, float, Receipt]] = deque()
        """(how many records it must have received, when that was written, what for)."""
        # As a subscriber and consumer:
        self.subscriptions: dict[int, Subscription] = {}
        self.jobs: dict[Key, Job] = {}
        """What it has in hand."""
        # As a publisher:
        self.routed = 0
        """The highest number taken from it."""
        self.acks: list[tuple[int, int]] = []
        self.told_jobs: list[int] = []
        self.known_done: set[tuple[int, str]] = set()
        self.undone = 0
        """Counts its publications that it was not told are done."""
        self.without: dict[bytes, int] = {}
        """{member: highest number of its own that was acknowledged without it}."""
        self.gaps: dict[bytes, int] = {}
        """The same of those who were told of it since: as long as something is not done, whoever
        waits for that may have to be told who was left out."""
        self.without_changed = False

    def send(
        self,
        record: Message,
        now: float,
        receipt: Receipt | None = None,
        topic: str = "",
        count: int = 0,
    ) -> None:
        """Queue a record behind all that is queued."""
        outbox = self.outbox
        if outbox is None or self.queue or outbox.size > self.feed:
            self.queue.append((record, receipt, topic, count))
            self.queued += len(record)
            if record[0] == r.CONTROL:
                self.untold += len(record)
        else:
            self._write(outbox, record, now, receipt)

    def _write(self, outbox: Outbox, record: Message, now: float, receipt: Receipt | None) -> None:
        if len(record) > outbox.max_message:
            # Whoever speaks at this moment is not to blame for it.
            self.unfit = len(record)
        else:
            outbox.write(record)
            self.written += 1
        if receipt is not None:
            self.owed.append((self.written, now, receipt))

    def control(self, record: r.Control, now: float, receipt: Receipt | None = None) -> None:
        """Queue a control record."""
        self.send(r.encode_control(record), now, receipt)

    def pump(self, now: float) -> None:
        """Move what was queued into the session, as far as it may go."""
        outbox, queue = self.outbox, self.queue
        if outbox is None:
            return
        while queue and outbox.size <= self.feed:
            self._tell_dropped(outbox, now)
            record, receipt, _, _ = queue.popleft()
            self.queued -= len(record)
            if record[0] == r.CONTROL:
                self.untold -= len(record)
            self._write(outbox, record, now, receipt)
        if outbox.size <= self.feed:
            self._tell_dropped(outbox, now)  # nothing may follow that it could go before

    @property
    def unaware(self) -> bool:
        """Whether it lost something and was not told."""
        return bool(self.dropped) or self.uncounted

    def _tell_dropped(self, outbox: Outbox, now: float) -> None:
        while self.dropped:
            some = list(self.dropped)[:_AT_ONCE]
            missed = {topic: self.dropped.pop(topic) for topic in some}
            self._write(outbox, r.encode_control(r.Missed(missed)), now, NOTHING)
        if self.uncounted:
            self.uncounted = False
            # Of nobody's in particular: all its subscriptions may have missed something.
            self._write(outbox, r.encode_control(r.Gap(r.NOBODY, 1)), now, NOTHING)

    def bound(self, limit: int) -> int:
        """Drop the oldest messages until the queue fits ``limit`` bytes; returns how many.

        Only of a released member: nobody waits for its receipts.
        """
        if self.queued <= limit:
            return 0
        kept: deque[tuple[Message, Receipt | None, str, int]] = deque()
        messages = 0
        while self.queue and self.queued > limit:
            item = self.queue.popleft()
            record, _, topic, count = item
            if topic:
                self.queued -= len(record)
                for name, number in (
                    count_topics(record).items() if topic == MANY else ((topic, count),)
                ):
                    self.dropped[name] = self.dropped.get(name, 0) + number
                messages += count
            else:
                kept.append(item)
        kept.extend(self.queue)
        self.queue = kept
        if len(self.dropped) > _COUNTED:
            self.dropped.clear()
            self.uncounted = True
        return messages

    def receipts(self, now: float) -> None:
        """Look at what the session has acknowledged."""
        owed, outbox = self.owed, self.outbox
        assert outbox is not None
        received = outbox.acknowledged
        while owed and owed[0][0] <= received:
            owed.popleft()[2].received()
        if self.queue or self.unaware:
            self.pump(now)

    @property
    def awaited_since(self) -> float | None:
        """Since when others wait for it to receive something; None while nobody does."""
        waits = self.owed and self.outbox is not None and not self.released
        return self.owed[0][1] if waits else None

    def is_late(self, now: float, lag: float) -> bool:
        """Whether others have waited for longer than ``lag``."""
        since = self.awaited_since
        return since is not None and now - since > lag

    def pardon(self, unseen: float, now: float) -> None:
        """For so many seconds nobody looked at what it has received."""
        self.owed = deque(
            (number, min(when + unseen, now), receipt) for number, when, receipt in self.owed
        )

    def leave_out(self, member: bytes, seq: int) -> None:
        """What it published is acknowledged without a member, up to a number; never to a lower one:
        what is sent again may come after what an earlier host has acknowledged.
        """
        if seq > self.without.get(member, 0):
            self.without[member] = seq
            self.without_changed = True

    def left_out(self) -> dict[bytes, int]:
        """{member: highest number of its own that was acknowledged without it}, as long as somebody
        may wait for that.
        """
        without, gaps = self.without, self.gaps
        return {
            member: max(without.get(member, 0), gaps.get(member, 0))
            for member in {**gaps, **without}
        }

    def take_acks(self) -> list[tuple[int, int]]:
        """Its publications that are done and that it was not told of, adjacent ranges as one."""
        acks, self.acks = self.acks, []
        if len(acks) == 1:
            return acks
        acks.sort()
        merged = [acks[0]]
        for first, last in acks[1:]:
            if first == merged[-1][1] + 1:
                merged[-1] = merged[-1][0], last
            else:
                merged.append((first, last))
        return merged

    def owed_from(self) -> dict[Seat, int]:
        """{publisher: highest number that this member has not received}."""
        highest: dict[Seat, int] = {}
        waiting = chain(
            (receipt for _, _, receipt in self.owed), (receipt for _, receipt, _, _ in self.queue)
        )
        for receipt in waiting:
            if isinstance(receipt, Entry):
                highest[receipt.seat] = max(receipt.last, highest.get(receipt.seat, 0))
        return highest

    def let_go(self) -> None:
        """Nobody waits for what it owes any more; it owes it still."""
        owed, self.owed = self.owed, deque()
        queue, self.queue = self.queue, deque()
        for number, when, receipt in owed:
            self.owed.append((number, when, _let_go(receipt)))
        for record, due, topic, count in queue:
            self.queue.append((record, due and _let_go(due), topic, count))

    def forget(self) -> None:
        """It is dead: nobody waits for it."""
        owed, queue = self.owed, self.queue
        self.owed, self.queue = deque(), deque()
        for _, _, receipt in owed:
            receipt.received()
        for _, due, _, _ in queue:
            if due is not None:
                due.received()


def _let_go(receipt: Receipt) -> Receipt:
    if isinstance(receipt, Entry) and receipt.stays:
        return receipt
    receipt.received()
    return NOTHING
