"""What must hold of hosts and messages: looked at while a schedule runs, and once it is at rest.

A subscription counts from when its user was told that it is live. A member that a host has
released, because it was out of touch for too long, is *loose*: what it had in hand may be done by
another as well, and messages may be missing to it, but not silently. What must hold of jobs and
requests is in ``work``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from open_channel.bus.core.interests import UNKNOWN
from tests.simulation.app import Number, Sub
from tests.simulation.violation import Violation
from tests.simulation.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_channel.bus.core.mixed import AnyPublication, Mixed
    from open_channel.bus.core.records import Publication
    from tests.simulation.hosting import Guest, Hosting
    from tests.simulation.process import Process
    from tests.simulation.world import World

__all__ = ["Checks"]

_ROOMY = 64 * 1024  # a queue of this size never overflows with small messages


class _Message(NamedTuple):
    since: int
    """The step in which it was published."""
    topic: str
    must: list[Sub]
    """Who has to get it."""
    workers: dict[str, list[Sub]]
    """{group: who may get it as a job}."""


class Checks:
    """All invariants of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.messages: dict[Number, _Message] = {}
        self.work = Work(self)
        self.passed = 0
        settings = world.settings
        self.roomy = settings.queue >= _ROOMY and settings.size == 1
        self.limits: dict[tuple[int, bytes], int] = {}
        """{(hosting, member): the number of the last record queued before it was replaced}."""
        self.left_out: dict[tuple[bytes, bytes], int] = {}
        """{(publisher, member): up to where it was once told that this one is left out}."""

    def fail(self, what: str) -> None:
        raise Violation(what)

    def name(self, number: Number) -> str:
        return f"{self.world.name_of(number[0])}#{number[1]}"

    # --- one host --------------------------------------------------------------------------

    def fence_passed(self, hosting: Hosting) -> None:
        if hosting.number < self.passed:
            self.fail(f"{hosting.name} passes the fence after hosting {self.passed}")
        self.passed = hosting.number

    def replaced(self, hosting: Hosting) -> None:
        """Another has taken its place; it may not know yet."""
        for guest in hosting.guests.values():
            outbox = guest.session.outbox
            queued = outbox._sealed + len(outbox.pending)
            self.limits[hosting.number, guest.member] = queued

    def welcomes(self, hosting: Hosting) -> None:
        if self.world.holder is not hosting:
            self.fail(f"{hosting.name} welcomes a member after it was replaced")

    def writes(self, hosting: Hosting, guest: Guest) -> None:
        """A host that was replaced writes: nothing that rests on what it has read since."""
        limit = self.limits.get((hosting.number, guest.member), 0)
        if guest.session.outbox._sent_last > limit:
            name = self.world.name_of(guest.member)
            self.fail(f"{hosting.name} tells {name} what it knows since it was replaced")

    def joined(self, process: Process, member: bytes) -> None:
        if member in process.known:
            self.fail(f"{process.name} is told twice that {self.world.name_of(member)} has come")
        process.known.add(member)

    def left(self, process: Process, member: bytes) -> None:
        name = self.world.name_of(member)
        if self.world.by_id[member].alive:
            self.fail(f"{process.name} is told that {name} has left")
        if member not in process.known:
            self.fail(f"{process.name} is told that {name} has left, and never that it has come")
        process.known.discard(member)

    # --- messages --------------------------------------------------------------------------

    def live(self, sub: Sub) -> None:
        self.world.note(f"{sub.name} is live")
        if sub.confirmed or sub.ended:
            self.fail(f"{sub.name} is told that it is live, and is or has ended")

    def published(self, process: Process, seq: int, topic: str) -> None:
        fitting = [sub for sub in self.world.subs() if sub.active and sub.wants(topic)]
        workers: dict[str, list[Sub]] = {}
        for sub in fitting:
            if sub.group:
                workers.setdefault(sub.interest.key, []).append(sub)
        must = [sub for sub in fitting if sub.plain]
        self.messages[process.id, seq] = _Message(self.world.steps, topic, must, workers)

    def delivered(self, sub: Sub, publication: Publication, bodies: Sequence[bytes]) -> None:
        numbers = range(publication.first, publication.last + 1)
        self._delivered(sub, publication, numbers, [publication.topic] * len(numbers), bodies)

    def delivered_mixed(
        self, sub: Sub, mixed: Mixed, topics: Sequence[str], bodies: Sequence[bytes]
    ) -> None:
        """Of these numbers, all that it wants and nothing else."""
        sender = mixed.sender
        numbers = [
            seq
            for seq in range(mixed.first, mixed.last + 1)
            if sub.wants(self.messages[sender, seq].topic)
        ]
        if not len(numbers) == len(topics) == len(bodies):
            name = self.name((sender, mixed.first))
            self.fail(f"{sub.name} gets {len(topics)} of {name}..{mixed.last}, not {len(numbers)}")
        self._delivered(sub, mixed, numbers, topics, bodies)

    def _delivered(
        self,
        sub: Sub,
        publication: AnyPublication,
        numbers: Sequence[int],
        topics: Sequence[str],
        bodies: Sequence[bytes],
    ) -> None:
        sender, first, last = publication.sender, publication.first, publication.last
        self.world.note(f"{sub.name} gets {self.name((sender, first))}..{last}")
        if first <= sub.high.get(sender, 0):
            how = "twice" if (sender, numbers[0]) in sub.got else "out of order"
            self.fail(f"{sub.name} gets {self.name((sender, first))} {how}")
        if sub.ended or not all(map(sub.wants, topics)):
            self.fail(f"{sub.name} gets {self.name((sender, first))}, which is not for it")
        for seq, topic, body in zip(numbers, topics, bodies, strict=True):
            self.is_whole(sub, (sender, seq), topic, body)
        sub.high[sender] = last
        sub.came.setdefault(sender, []).append((first, self.world.steps))
        sub.got.update((sender, seq) for seq in numbers)

    def is_whole(self, sub: Sub, number: Number, topic: str, body: bytes) -> None:
        """What arrives is what was published."""
        if self.messages[number].topic != topic or body != self.world.body(number[1]):
            self.fail(f"{sub.name} gets {self.name(number)} as {body!r} to {topic}")

    def missing(self, sub: Sub, count: int) -> None:
        """Somebody is told that messages are missing: that must be so for a reason."""
        self.world.note(f"{sub.name} is told that {count} are missing")
        if not sub.process.was_loose:
            self.fail(f"{sub.name} is told that {count} are missing, and never was out of touch")
        if count != UNKNOWN and (count < 1 or self.roomy):
            self.fail(f"{sub.name} is told that {count} are missing, and no queue was full")

    def heard(self, process: Process) -> None:
        """A member was told something."""
        for member, seq in process.core.without.items():
            told = self.left_out.get((process.id, member), 0)
            self.left_out[process.id, member] = max(seq, told)

    def acknowledged(self, process: Process) -> None:
        """A publisher was told something: who must have those messages has them."""
        if not process.unacked:
            return
        held = {
            seq for one in process.core._held.values() for seq in range(one.first, one.last + 1)
        }
        sealed = process.core._next
        acked = [seq for seq in process.unacked if seq not in held and seq < sealed]
        if not acked:
            return
        process.unacked = [seq for seq in process.unacked if seq in held or seq >= sealed]
        for seq in acked:
            self._arrived(process, seq)

    def _arrived(self, process: Process, seq: int) -> None:
        number = process.id, seq
        message = self.messages[number]
        without = process.core.without
        self._excuse(process, seq)
        for sub in message.must:
            if not sub.active or without.get(sub.process.id, 0) >= seq:
                continue
            if number not in sub.got and not sub.knows(*number, message.since):
                self.fail(f"{self.name(number)} is acknowledged and {sub.name} does not have it")
            # One who was left out of it has it in his queue, once he is back: none waits for more.
            if self.left_out.get((process.id, sub.process.id), 0) < seq and any(
                sender == process.id and first <= seq <= last for sender, first, last in sub.untaken
            ):
                self.fail(f"{self.name(number)} is acknowledged and {sub.name} has not taken it")
        for group, workers in message.workers.items():
            self.work.must_be_done(number, group, workers)

    def heard_of(self, process: Process, number: Number, subs: Sequence[Sub]) -> list[Sub]:
        """Those of whom the host of ``process`` knew when a message came.

        Where the directory was deleted it waits for nobody else: whom it, or a host before it, is
        not told of, it misses.
        """
        connection = process.connection
        if not self.world.wiped or connection is None:
            return list(subs)
        hosting = connection.hosting
        routed = hosting.routed.get(number, 0)
        strangers = self.world.strangers.get(number, set[bytes]())
        return [
            sub
            for sub in subs
            if hosting.told_of.get(sub.process.id, routed + 1) <= routed
            and sub.process.id not in strangers
        ]

    def _excuse(self, process: Process, seq: int) -> None:
        """From here on nobody owes a message to those that its host did not know."""
        number = process.id, seq
        if self.world.wiped:
            for subs in (self.messages[number].must, *self.messages[number].workers.values()):
                subs[:] = self.heard_of(process, number, subs)

    def confirmed(self, process: Process, last: int) -> None:
        """All that was published up to ``last`` has arrived, it says."""
        if process.unacked and process.unacked[0] <= last:
            self.fail(
                f"{process.name}: all up to {last} has arrived, and {process.unacked} has not"
            )

    # --- at rest ---------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Everything has been handed on, and nobody owes anything."""
        lacking: dict[Sub, int] = {}
        for number, message in self.messages.items():
            if not self.world.by_id[number[0]].alive:
                continue
            for sub in message.must:
                if not sub.active or number in sub.got:
                    continue
                if not sub.knows(*number, message.since):
                    self.fail(f"{sub.name} never got {self.name(number)}, and does not know")
                lacking[sub] = lacking.get(sub, 0) + 1
            for group, workers in message.workers.items():
                self.work.must_be_done(number, group, workers)
        for sub in self.world.subs():
            if sub.active and sub.plain:
                self._counted(sub, lacking.get(sub, 0))
        self._hosted()
        for process in self.world.processes:
            if process.alive:
                self._empty(process)
        self._broker_empty()

    def _counted(self, sub: Sub, lacking: int) -> None:
        """Whether it was told how many messages are missing."""
        counts = [count for _, count in sub.told]
        if UNKNOWN in counts:
            return
        told = sum(counts)
        if told < lacking:
            self.fail(f"{sub.name} was told that {told} are missing, of {lacking}")
        fitting = sum(
            sub.wants(message.topic) and number not in sub.got
            for number, message in (self.messages.items() if told else ())
        )
        # Another host may have sent what the last one had dropped.
        if told > fitting and not self.world.takeovers:
            self.fail(f"{sub.name} was told that {told} are missing, of {fitting} at most")

    def _hosted(self) -> None:
        """There is one host, all are connected to it, and know of one another."""
        alive = [process for process in self.world.processes if process.alive]
        holder = self.world.holder
        if not alive:
            return
        if holder is None or not holder.hosting:
            self.fail("nobody hosts")
            return
        for hosting in self.world.hostings:
            lives = hosting.process.alive and hosting is not holder
            if lives and (hosting.hosting or hosting.guests):
                self.fail(f"{hosting.name} has guests, beside {holder.name}")
        here = {process.id for process in alive}
        for process in alive:
            connection = process.connection
            if connection is None or not connection.welcomed or connection.hosting is not holder:
                self.fail(f"{process.name} is not connected to {holder.name}")
            if not process.core.roster.keys() == process.known == here:
                self.fail(f"{process.name} does not know who is here: {process.known}")

    def _empty(self, process: Process) -> None:
        core = process.core
        held = {
            "outbox": core._held,
            "published and not acknowledged": process.unacked,
            "waiting for confirmation": process.confirming,
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
                member for member in core._arrivals.marks if not self.world.by_id[member].alive
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
        routing = broker.routing
        left: dict[str, object] = {
            "expected": broker.expected,
            "absent": broker.absent,
            "log": broker._log,
            "jobs": routing.jobs._open,
            "later": routing.jobs._later,
            "homeless": routing._homeless,
            "in hand": routing.jobs._in_hand,
            "finished": routing.jobs._finished,
            "asked": routing._asked,
        }
        for seat in broker.seats.values():
            name = self.world.name_of(seat.member)
            left[f"queue of {name}"] = seat.queue
            left[f"receipts of {name}"] = seat.owed
            left[f"jobs of {name}"] = seat.jobs
            left[f"left out of {name}'s"] = seat.without
            left[f"gaps of {name}'s"] = seat.gaps
            left[f"dropped of {name}"] = seat.dropped
            left[f"released {name}"] = seat.released
            left[f"known done of {name}'s"] = seat.known_done
            left[f"held by {name}"] = [sub for sub in seat.subscriptions.values() if sub.held]
            left[f"in hand of {name}"] = [sub for sub in seat.subscriptions.values() if sub.in_hand]
            if seat.queued:
                left[f"bytes queued for {name}"] = seat.queued
        for what, there in left.items():
            if there:
                self.fail(f"{hosting.name} has {what} left: {there}")
