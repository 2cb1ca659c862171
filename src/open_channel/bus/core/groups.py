"""Groups: who gets which job, who has it in hand, and what becomes of it when he dies.

A job is one message for one group, known by its publisher, its number and the group. A request is
a job of the responders of its topic; it ends with a reply instead of being done.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from open_channel.bus.core import records as r

if TYPE_CHECKING:
    from open_channel.bus.core.interests import Key
    from open_channel.bus.core.seat import Entry, Seat, Subscription
    from open_channel.protocol.batches import Message

__all__ = ["Group", "Job"]

_TURNS = 0xFFFF  # it has two bytes on the wire, and only needs to differ from the last


class Job(msgspec.Struct, eq=False):
    """One message on its way to one member of a group."""

    key: Key
    group: Group
    entry: Entry
    record: Message
    """A publication of the one message."""
    redelivered: bool = False
    read: bool = False
    """Whether its holder has received it."""
    holder: Subscription | None = None
    turn: int = 0
    """How often it was handed out. A rejection that names another turn is of a job that was
    taken from its holder meanwhile, and may be in the same hands again."""

    @property
    def request(self) -> bool:
        """Whether it is one."""
        return not self.key[2]

    def move(self, entry: Entry) -> None:
        """Its publisher has sent it again in another session: that waits for it now."""
        entry.waiting += 1
        self.entry = entry


class _Handed(msgspec.Struct, eq=False):
    """Whether a holder has received a job; it may be another's when that is known."""

    job: Job
    holder: Subscription

    def received(self) -> None:
        """See ``Receipt``."""
        if self.job.holder is self.holder:
            self.job.read = True


class Group:
    """The consumers of one pattern that share its messages, or the responders of a service."""

    __slots__ = ("_pending", "_ready", "consumers", "key", "pattern")

    def __init__(self, key: str, pattern: str) -> None:
        self.key = key
        self.pattern = pattern
        self.consumers: dict[Subscription, None] = {}
        self._ready: deque[Subscription] = deque()
        # Not a deque: one that many have given up waiting for would be searched for each.
        self._pending: OrderedDict[Job, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a free hand."""
        return len(self._pending)

    def join(self, consumer: Subscription) -> None:
        """One more shares the work."""
        self.consumers[consumer] = None
        self._ready.append(consumer)

    def leave(self, consumer: Subscription) -> None:
        """One less."""
        del self.consumers[consumer]
        if consumer in self._ready:
            self._ready.remove(consumer)

    def take_pending(self) -> list[Job]:
        """The jobs that wait, which nobody is left for."""
        jobs = list(self._pending)
        self._pending.clear()
        return jobs

    def add(self, job: Job) -> None:
        """A job for whoever has a hand free."""
        self._pending[job] = None

    def put_back(self, jobs: list[Job]) -> None:
        """Jobs whose consumer is gone: they are next."""
        for job in reversed(jobs):
            job.holder = None
            job.redelivered = True
            job.read = False
            self._pending[job] = None
            self._pending.move_to_end(job, last=False)

    def drop(self, job: Job) -> None:
        """A job that waits is done, or nobody wants it any more."""
        self._pending.pop(job, None)

    def free(self, consumer: Subscription) -> None:
        """A consumer has one job less in hand."""
        consumer.in_hand -= 1
        if consumer in self.consumers and consumer not in self._ready:
            self._ready.append(consumer)

    def hold(self, job: Job, consumer: Subscription) -> None:
        """A consumer has a job in hand."""
        job.holder = consumer
        consumer.in_hand += 1
        consumer.seat.jobs[job.key] = job

    def assign(self, now: float) -> list[Seat]:
        """Hand out what can be handed out; returns the seats that got something."""
        given: list[Seat] = []
        ready = self._ready
        while self._pending and ready:
            consumer = ready.popleft()
            seat = consumer.seat
            if consumer.in_hand >= consumer.record.prefetch or seat.released:
                continue  # free() or its return makes it ready again
            job, _ = self._pending.popitem(last=False)
            self.hold(job, consumer)
            ready.append(consumer)
            job.turn = (job.turn + 1) & _TURNS
            number, seq = consumer.record.id, job.key[1]
            record = r.encode_job(number, seq, job.redelivered, job.turn, job.record)
            seat.send(record, now, _Handed(job, consumer))
            given.append(seat)
        return given

    def refresh(self, consumer: Subscription) -> None:
        """A consumer that was out of touch is back."""
        if consumer in self.consumers and consumer not in self._ready:
            self._ready.append(consumer)
