"""What must hold: looked at while a schedule runs, and once it has come to rest.

A subscription counts from when its user was told that it is live. A member that a host has
released, because it was out of touch for too long, is *loose*: what it had in hand may be done by
another as well, and messages may be missing to it, but not silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.app import Number, Sub, Waiting

if TYPE_CHECKING:
    from open_channel.bus.core.records import Publication
    from tests.simulation.hosting import Hosting
    from tests.simulation.process import Process
    from tests.simulation.world import World

__all__ = ["Checks", "Violation"]


class Violation(AssertionError):
    """Something does not hold."""


class _Message(NamedTuple):
    since: int
    """The step in which it was published."""
    must: list[Sub]
    """Who has to get it."""
    workers: dict[str, list[Sub]]
    """{group: who may get it as a job}."""


class _Request(NamedTuple):
    responders: list[Sub]


Key = tuple[Number, str, bytes]
"""A job or a request: number, group; and whose, where each responder gets it."""


class _Work:
    """One member at work on a job, until it is done or given back."""

    def __init__(self, sub: Sub) -> None:
        self.sub = sub
        self.loose = sub.process.loose
        self.done = False


class Checks:
    """All invariants of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.messages: dict[Number, _Message] = {}
        self.requests: dict[Number, _Request] = {}
        self.everyone: dict[Number, bool] = {}
        self.work: dict[Key, list[_Work]] = {}
        self.passed = 0

    def fail(self, what: str) -> None:
        raise Violation(what)

    def name(self, number: Number) -> str:
        return f"{self.world.name_of(number[0])}#{number[1]}"

    # --- one host --------------------------------------------------------------------------

    def fence_passed(self, hosting: Hosting) -> None:
        if hosting.number < self.passed:
            self.fail(f"{hosting.name} passes the fence after hosting {self.passed}")
        self.passed = hosting.number

    def left(self, process: Process, member: bytes) -> None:
        if self.world.by_id[member].alive:
            self.fail(f"{process.name} is told that {self.world.name_of(member)} has left")

    # --- messages --------------------------------------------------------------------------

    def live(self, sub: Sub) -> None:
        self.world.note(f"{sub.name} is live")

    def published(self, process: Process, seq: int, topic: str) -> None:
        fitting = [sub for sub in self.world.subs() if sub.active and sub.wants(topic)]
        workers: dict[str, list[Sub]] = {}
        for sub in fitting:
            if sub.group:
                workers.setdefault(sub.interest.key, []).append(sub)
        must = [sub for sub in fitting if sub.plain]
        self.messages[process.id, seq] = _Message(self.world.steps, must, workers)

    def delivered(self, sub: Sub, publication: Publication) -> None:
        sender, first, last = publication.sender, publication.first, publication.last
        self.world.note(f"{sub.name} gets {self.name((sender, first))}..{last}")
        if first <= sub.high.get(sender, 0):
            how = "twice" if (sender, first) in sub.got else "out of order"
            self.fail(f"{sub.name} gets {self.name((sender, first))} {how}")
        sub.high[sender] = last
        sub.came.setdefault(sender, []).append((first, self.world.steps))
        sub.got.update((sender, seq) for seq in range(first, last + 1))

    def acknowledged(self, process: Process) -> None:
        """A publisher was told something: who must have those messages has them."""
        if not process.unacked:
            return
        held = {
            seq for one in process.core._held.values() for seq in range(one.first, one.last + 1)
        }
        acked = [seq for seq in process.unacked if seq not in held]
        if not acked:
            return
        process.unacked = [seq for seq in process.unacked if seq in held]
        pending = process.core._next - 1
        process.unacked += [seq for seq in acked if seq > pending]
        for seq in acked:
            if seq <= pending:
                self._arrived(process, seq)

    def _arrived(self, process: Process, seq: int) -> None:
        number = process.id, seq
        message = self.messages[number]
        for sub in message.must:
            if not sub.active or number in sub.got or sub.knows(*number, message.since):
                continue
            if process.core.without.get(sub.process.id, 0) < seq:
                self.fail(f"{self.name(number)} is acknowledged and {sub.name} does not have it")

    # --- jobs and requests -----------------------------------------------------------------

    def _key(self, sub: Sub, number: Number) -> Key:
        each = self.everyone.get(number, False)
        return number, sub.interest.key, sub.process.id if each else b""

    def job_begun(self, sub: Sub, number: Number, topic: str) -> None:
        what = f"{'request' if sub.serves else 'job'} {self.name(number)}"
        self.world.note(f"{sub.name} begins {what}")
        if not sub.wants(topic):
            self.fail(f"{sub.name} gets {what} of {topic}")
        work = self.work.setdefault(self._key(sub, number), [])
        mine = _Work(sub)
        for other in work:
            if other.sub.process.alive and not other.loose and not mine.loose:
                how = "has done" if other.done else "is at work on"
                self.fail(f"{sub.name} begins {what} that {other.sub.name} {how}")
        work.append(mine)

    def _mine(self, sub: Sub, number: Number) -> list[_Work]:
        return [one for one in self.work[self._key(sub, number)] if one.sub is sub]

    def job_done(self, sub: Sub, number: Number) -> None:
        """A job is done, or a request answered."""
        self.world.note(f"{sub.name} has done {self.name(number)}")
        work = self.work[self._key(sub, number)]
        mine = self._mine(sub, number)[-1]
        for other in work:
            if other is not mine and other.done and not other.loose and not mine.loose:
                self.fail(f"{sub.name} does {self.name(number)} a second time")
        mine.done = True

    def job_lost(self, sub: Sub, number: Number) -> None:
        """A member is told that another gets its job: that must be so for a reason."""
        if not self._mine(sub, number)[-1].loose:
            self.fail(f"{sub.name} loses job {self.name(number)}, and is in touch")
        self.job_dropped(sub, number)

    def job_dropped(self, sub: Sub, number: Number) -> None:
        """Given back, or lost."""
        work = self.work[self._key(sub, number)]
        work[:] = [one for one in work if one.sub is not sub or one.done]

    def loosen(self, process: Process) -> None:
        """A member is out of touch, or gone: what has not arrived from it may be done again."""
        core = process.core
        untold = {
            *core._finished,
            *core._jobs,
            *(key for held in core._held.values() for key in held.jobs),
        }
        for (number, group, _), work in self.work.items():
            key = (*number, group)
            told = key not in untold
            for one in work:
                if one.sub.process is process and not (one.done and told):
                    one.loose = True

    def requested(self, waiting: Waiting) -> None:
        number = waiting.process.id, waiting.number
        self.everyone[number] = waiting.everyone
        responders = [
            sub
            for sub in self.world.subs()
            if sub.serves
            and sub.active
            and sub.wants(waiting.topic)
            and (not any(waiting.to) or sub.process.id == waiting.to)
        ]
        self.requests[number] = _Request(responders)

    def answered(self, waiting: Waiting) -> None:
        """A request has ended: with no reply only when that is so."""
        number = waiting.process.id, waiting.number
        self.world.note(f"{waiting.process.name} has an end of {waiting.number}: {waiting.over}")
        request = self.requests[number]
        willing = [sub for sub in request.responders if sub.active and not sub.process.was_loose]
        if waiting.over in {"NOBODY", "GONE", "refused"} and willing and not waiting.replies:
            self.fail(f"request {self.name(number)}: {waiting.over}, with {willing[0].name} there")
        dead = [
            sub
            for sub in self.world.subs()
            if sub.serves and (not sub.process.alive or sub.process.was_loose)
        ]
        gone = any(waiting.to) or any(sub.wants(waiting.topic) for sub in dead)
        if waiting.over == "DIED" and not gone:
            self.fail(f"request {self.name(number)}: a responder died, it says, and nobody did")
        if any(waiting.to) and waiting.over in {"DIED", "GONE"}:
            asked = self.world.by_id[waiting.to]
            if asked.alive and not asked.was_loose:
                self.fail(f"request {self.name(number)}: {waiting.over}, and it lives")

    # --- at rest ---------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Everything has been handed on, and nobody owes anything."""
        for number, message in self.messages.items():
            if self.world.by_id[number[0]].alive:
                for sub in message.must:
                    told = number in sub.got or sub.knows(*number, message.since)
                    if sub.active and not told:
                        self.fail(f"{sub.name} never got {self.name(number)}, and does not know")
                for group, workers in message.workers.items():
                    self._worked_on(number, group, workers)
        for process in self.world.processes:
            if process.alive:
                self._empty(process)
        self._broker_empty()

    def _worked_on(self, number: Number, group: str, workers: list[Sub]) -> None:
        if not any(sub.active and not sub.process.was_loose for sub in workers):
            return
        if not any(one.done for one in self.work.get((number, group, b""), [])):
            self.fail(f"job {self.name(number)} of {group!r} was never done")

    def _empty(self, process: Process) -> None:
        core = process.core
        held = {
            "outbox": core._held,
            "jobs in hand": core._jobs,
            "finished": core._finished,
            "known done": core._known_done,
            "without": core.without,
            "requests": [one for one in process.requests if not one.over],
            "awaiting": core._requests,
            "subscriptions to be confirmed": [
                sub for sub in process.subs if not sub.ended and not sub.confirmed
            ],
            "marks of the dead": [
                member for member in core._marks if not self.world.by_id[member].alive
            ],
        }
        for what, left in held.items():
            if left:
                self.fail(f"{process.name} has {what} left: {left}")
        if any(core.sizes):
            self.fail(f"{process.name} counts {core.sizes} bytes of nothing")

    def _broker_empty(self) -> None:
        hosting = self.world.holder
        if hosting is None:
            return
        broker = hosting.broker
        routing = broker._routing
        left: dict[str, object] = {
            "expected": broker.expected,
            "absent": broker.absent,
            "log": broker._log,
            "jobs": routing._jobs,
            "later": routing._later,
            "homeless": routing._homeless,
            "in hand": routing._in_hand,
            "finished": routing._finished,
        }
        for seat in broker.seats.values():
            name = self.world.name_of(seat.member)
            left[f"queue of {name}"] = seat.queue
            left[f"receipts of {name}"] = seat.owed
            left[f"jobs of {name}"] = seat.jobs
            left[f"left out of {name}'s"] = seat.without
            left[f"dropped of {name}"] = seat.dropped
            left[f"released {name}"] = seat.released
            left[f"held by {name}"] = [sub for sub in seat.subscriptions.values() if sub.held]
            left[f"in hand of {name}"] = [sub for sub in seat.subscriptions.values() if sub.in_hand]
            if seat.queued:
                left[f"bytes queued for {name}"] = seat.queued
        for what, there in left.items():
            if there:
                self.fail(f"{hosting.name} has {what} left: {there}")
