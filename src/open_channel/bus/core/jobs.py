"""Jobs, and requests to one responder: which are not done, and in whose hands they are.

A job begins when it is routed and ends when it is done, wherever it has been meanwhile. After a
takeover it is known from two sides, in any order: its publisher sends it again, and whoever has it
in hand reports it. Until both have come, it is held back here, or its report is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core import records as r
from open_channel.bus.core.seat import NOTHING, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator

    from open_channel.bus.core.broker import Broker
    from open_channel.bus.core.groups import Group, Job
    from open_channel.bus.core.interests import Key
    from open_channel.bus.core.mixed import AnyPublication
    from open_channel.bus.core.seat import Seat

__all__ = ["Jobs"]

_RESENT = int(r.Flag.RESENT)


class Jobs:
    """Those of one broker."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._open: dict[Key, Job] = {}
        self._later: dict[Key, Job] = {}
        """Of these, what somebody may have in hand who has not come back yet."""
        self._in_hand: dict[Key, Subscription] = {}
        """What members reported that has not been routed yet, and in whose hands it is."""
        self._finished: set[Key] = set()
        """What members reported as done whose publisher has not come back yet."""

    def find(self, key: Key) -> Job | None:
        """A job that is not done."""
        return self._open.get(key)

    def was_done(self, key: Key) -> bool:
        """Whether it was done before it came here."""
        return key in self._finished

    def is_in_hand(self, key: Key) -> bool:
        """Whether somebody has reported it, before it came here."""
        return key in self._in_hand

    # --- from its beginning to its end -----------------------------------------------------

    def begin(self, job: Job, flags: int) -> None:
        """A job is routed; ``flags`` are its publication's."""
        job.entry.waiting += 1
        job.redelivered = bool(flags & _RESENT)  # somebody may have begun who died with his host
        self._open[job.key] = job
        reported = self._in_hand.pop(job.key, None)
        if reported is not None:
            reported.in_hand -= 1
            _give(job, reported)
        elif job.redelivered and not self._broker.settled:
            self._later[job.key] = job
        else:
            job.group.add(job)

    def assign(self, group: Group) -> None:
        """Hand out what can be handed out."""
        self._broker.dirty.update(dict.fromkeys(group.assign(self._broker.now)))

    def refresh(self, subscription: Subscription) -> None:
        """It may take something, or again."""
        group = subscription.group
        if group is not None:
            group.refresh(subscription)
            self.assign(group)

    def done(self, key: Key, publisher: Seat | None) -> bool:
        """A job is done, or a request answered, by whom it does not matter; False when it is not
        known here. ``publisher`` is None when he is not here.
        """
        job = self._open.get(key)
        if job is not None:
            job.entry.answered = job.request
            self.finish(job)
            return True
        # While what is logged may yet be shared out, also of one who is gone.
        if not self._broker.settled or (publisher is not None and not publisher.back):
            self._finished.add(key)
        return False

    def finish(self, job: Job) -> None:
        """It waits for nobody, and nobody for it, any more."""
        self._open.pop(job.key, None)
        self._later.pop(job.key, None)
        group, holder = job.group, job.holder
        if holder is not None:
            job.holder = None
            holder.seat.jobs.pop(job.key, None)
            group.free(holder)
            self.assign(group)
        else:
            group.drop(job)
        if not job.request:
            job.entry.jobs -= 1
        job.entry.received()

    def end(self, job: Job, why: r.End) -> None:
        """Nobody replies to a request any more."""
        seat = job.entry.seat
        if self._broker.seats.get(seat.member) is seat:
            self._broker.control(seat, r.Ended(job.key[1], why))
        self.finish(job)

    def cancel(self, key: Key) -> None:
        """Nobody waits for a reply any more; who works on it goes on."""
        job = self._open.get(key)
        if job is not None and job.holder is None:
            self.finish(job)

    # --- what leaves the hands it is in ----------------------------------------------------

    def reject(self, seat: Seat, key: Key, turn: int) -> None:
        """A consumer gives a job back that was handed to it for the ``turn``-th time."""
        job = seat.jobs.get(key)
        if job is None or job.holder is None:
            if key in self._in_hand and self._in_hand[key].seat is seat:
                self._drop_report(key)
            return
        if job.turn != turn:
            return
        del seat.jobs[key]
        holder, job.holder = job.holder, None
        job.redelivered = True
        job.read = False
        if not job.group.consumers and self._broker.settled:
            self.finish(job)
            return
        job.group.add(job)
        job.group.free(holder)
        self.assign(job.group)

    def put_back(
        self, subscription: Subscription, group: Group, kept: set[tuple[bytes, int, int]]
    ) -> None:
        """A consumer has left its group; ``kept`` is what it works on still, with its turn."""
        jobs = subscription.seat.jobs
        back = [
            job
            for key, job in jobs.items()
            if job.holder is subscription and (*key[:2], job.turn) not in kept
        ]
        for job in back:
            del jobs[job.key]
        group.put_back(back)
        for key, holder in list(self._in_hand.items()):
            if holder is subscription and (*key[:2], 0) not in kept:
                self._drop_report(key)

    def take_back(self, seat: Seat) -> None:
        """A member is out of touch: what it has not read of its jobs goes to others."""
        for key, job in list(seat.jobs.items()):
            if job.read or job.holder is None:
                continue
            del seat.jobs[key]
            job.group.free(job.holder)
            job.group.put_back([job])
            self._broker.control(seat, r.Lost(*key), NOTHING)
            self.assign(job.group)

    def died(self, seat: Seat) -> None:
        """A member is dead: what it had in hand, and what it waits for."""
        jobs, seat.jobs = seat.jobs, {}
        for job in jobs.values():
            if job.request:
                job.holder = None
                self.end(job, r.End.DIED)
            elif job.group.consumers or not self._broker.settled:
                job.group.put_back([job])
                self.assign(job.group)
            else:
                job.holder = None
                self.finish(job)
        for key in [key for key, holder in self._in_hand.items() if holder.seat is seat]:
            self._drop_report(key)
        for job in [job for job in self._open.values() if job.entry.seat is seat and job.request]:
            if job.holder is None:
                self.finish(job)
        self.forget_reports(seat, dead=True)

    # --- what members report at another host -----------------------------------------------

    def report(self, seat: Seat, reported: r.Job) -> Key | None:
        """A member that has come back has a job in hand; its key if it has not been routed yet."""
        key = (reported.publisher, reported.seq, reported.group)
        number = reported.subscription  # it may be closed, and worked for still
        subscription = seat.subscriptions.get(number) or Subscription(seat, r.Subscribe(number, ""))
        job = self._open.get(key)
        if job is not None and job.holder is None:
            self._later.pop(key, None)
            job.group.drop(job)
            _give(job, subscription)
        elif job is not None or (key[2] and key in self._in_hand):
            self._broker.control(seat, r.Lost(*key))
        elif key not in self._in_hand and (
            # Also of one who is gone: what is logged may yet be shared out.
            reported.publisher in self._broker.seats or not self._broker.settled
        ):
            self._in_hand[key] = subscription
            subscription.in_hand += 1
            return key
        return None

    def reported(self, publication: AnyPublication) -> Iterator[tuple[int, str]]:
        """The number and the group of what is in hand of a publication's messages."""
        for sender, seq, group in list(self._in_hand):
            mine = sender == publication.sender and publication.first <= seq <= publication.last
            if mine and group:
                yield seq, group

    def take_reports(self, seat: Seat) -> None:
        """All that was routed before a member came back is routed to it: what it has in hand of
        those who have sent all again, and has not been found, is done.
        """
        for key in [key for key, holder in self._in_hand.items() if holder.seat is seat]:
            publisher = self._broker.seats.get(key[0])
            if publisher is None:
                self._drop_report(key)
            elif publisher.back:
                self._disown(key)

    def forget_reports(self, publisher: Seat, *, dead: bool = False) -> None:
        """A publisher has sent all again that is not done: the rest is."""
        member = publisher.member
        let_go = self._drop_report if dead else self._disown
        for key in [key for key in self._in_hand if key[0] == member]:
            let_go(key)
        if self._broker.settled:  # else what is in the log may yet be shared out
            self._finished = {key for key in self._finished if key[0] != member}

    def _disown(self, key: Key) -> None:
        """What a member has reported was done without it, while it was out of touch."""
        if key[2]:
            self._broker.control(self._in_hand[key].seat, r.Lost(*key))
        self._drop_report(key)

    def _drop_report(self, key: Key) -> None:
        (holder := self._in_hand.pop(key)).in_hand -= 1
        if holder.record.id in holder.seat.subscriptions:
            self.refresh(holder)

    def settle(self) -> None:
        """Nobody is expected any more: what may have been in somebody's hands is not."""
        later, self._later = self._later, {}
        for job in later.values():
            job.group.add(job)

    def forget_finished(self) -> None:
        """The same; what was reported as done is kept for those who have not sent all again."""
        owing = {seat.member for seat in self._broker.seats.values() if not seat.back}
        self._finished = {key for key in self._finished if key[0] in owing}

    def groups(self) -> list[Group]:
        """The groups of the jobs that are not done."""
        return [job.group for job in self._open.values()]


def _give(job: Job, subscription: Subscription) -> None:
    """It is in a member's hands already."""
    group = subscription.group
    if group is not None and group.key == job.key[2]:
        job.group = group  # of a request: it could have gone to responders of another pattern
    job.read = True
    job.turn = 0
    job.group.hold(job, subscription)
