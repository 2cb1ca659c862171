"""What must hold of jobs and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.app import Number, Sub, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_channel.bus.core.records import Publication
    from tests.simulation.invariants import Checks
    from tests.simulation.process import Process

__all__ = ["Work"]

Key = tuple[Number, str, bytes]
"""A job or a request: number, group; and whose, where each responder gets it."""


class _Share:
    """One member at work on a job, until it is done or given back."""

    def __init__(self, sub: Sub) -> None:
        self.sub = sub
        self.loose = sub.process.loose
        self.done = False
        self.takeovers = sub.process.world.takeovers
        """... there were when it began."""


class Work:
    """The invariants of jobs and requests."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._world = checks.world
        self._fail = checks.fail
        self._name = checks.name
        self.shares: dict[Key, list[_Share]] = {}
        self._begun: set[Key] = set()
        """What somebody has ever had in hand."""
        self._everyone: dict[Number, bool] = {}
        """Of each request: whether all who can are to reply."""
        self._responders: dict[Number, list[Sub]] = {}
        """Who can reply, when it was made."""
        self._answers: dict[Number, set[bytes]] = {}
        """Who has replied."""

    # --- jobs, and requests at who answers them --------------------------------------------

    def _key(self, sub: Sub, number: Number) -> Key:
        each = self._everyone.get(number, False)
        return number, sub.interest.key, sub.process.id if each else b""

    def begun(self, sub: Sub, number: Number, topic: str, body: bytes, redelivered: bool) -> None:
        what = f"{'request' if sub.serves else 'job'} {self._name(number)}"
        self._world.note(f"{sub.name} begins {what}")
        if sub.ended or not sub.wants(topic):
            self._fail(f"{sub.name} gets {what} of {topic}, which is not for it")
        if sub.group:
            self._checks.is_whole(sub, number, topic, body)
            if self._in_hand(sub) >= sub.prefetch:
                self._fail(f"{sub.name} has {len(sub.hands)} jobs in hand and gets {what}")
        elif body != self._world.body(number[1]):
            self._fail(f"{sub.name} gets {what} as {body!r}")
        key = self._key(sub, number)
        shares = self.shares.setdefault(key, [])
        mine = _Share(sub)
        mine.loose |= self._missed(sub, number)
        if key in self._begun and not redelivered and not mine.loose:
            self._fail(f"{sub.name} gets {what}, which somebody had, as if it were new")
        self._begun.add(key)
        for other in shares:
            if not self._checks.heard_of(sub.process, number, [other.sub]):
                other.loose = True
            if other.sub.process.alive and not other.loose and not mine.loose:
                how = "has done" if other.done else "is at work on"
                self._fail(f"{sub.name} begins {what} that {other.sub.name} {how}")
        shares.append(mine)

    def _missed(self, sub: Sub, number: Number) -> bool:
        """Whether a host had not heard of it, after a deletion, when this came."""
        return sub.process.id in self._world.strangers.get(number, set[bytes]())

    def _in_hand(self, sub: Sub) -> int:
        """How many jobs it has in hand, as far as a host can know.

        What another has done counts no more, and what a dead member has published a new host knows
        nothing of.
        """
        return sum(
            self._world.by_id[number[0]].alive
            and not any(one.done for one in self.shares[self._key(sub, number)])
            for number in sub.hands
        )

    def _mine(self, sub: Sub, number: Number) -> list[_Share]:
        return [one for one in self.shares[self._key(sub, number)] if one.sub is sub]

    def done(self, sub: Sub, number: Number, *, accepted: bool = True) -> None:
        """A job is done, or a request answered; the core has not accepted what was lost."""
        self._world.note(f"{sub.name} has done {self._name(number)}")
        if not accepted and not sub.ended:
            self._fail(f"{sub.name} has done {self._name(number)}, and was not told of its loss")
        shares = self.shares[self._key(sub, number)]
        mine = self._mine(sub, number)[-1]
        if not accepted:
            shares.remove(mine)  # one whose subscription has ended learns of its loss in this way
            return
        for other in shares:
            if other is not mine and other.done and not other.loose and not mine.loose:
                self._fail(f"{sub.name} does {self._name(number)} a second time")
        mine.done = True
        if sub.serves:
            self._answers.setdefault(number, set()).add(sub.process.id)

    def lost(self, sub: Sub, number: Number) -> None:
        """A member is told that another gets its job: that must be so for a reason.

        That another was out of touch, and has it or has done it, is one too: a new host cannot know
        which of the two was, and leaves it with the first who says that he has it.
        """
        shares = self.shares[self._key(sub, number)]
        loose = any(one.loose for one in shares if one.sub is not sub)
        loose |= self._missed(sub, number)
        if not self._mine(sub, number)[-1].loose and not loose:
            self._fail(f"{sub.name} loses job {self._name(number)}, and is in touch")
        self.dropped(sub, number)

    def dropped(self, sub: Sub, number: Number) -> None:
        """Given back, or lost."""
        shares = self.shares[self._key(sub, number)]
        shares[:] = [one for one in shares if one.sub is not sub or one.done]

    def loosen(self, process: Process) -> None:
        """A member is out of touch, or gone: what has not arrived from it may be done again."""
        core = process.core
        untold = {
            *core._finished,
            *core._jobs,
            *(key for held in core._held.values() for key in held.jobs),
        }
        for (number, group, _), shares in self.shares.items():
            told = (*number, group) not in untold
            for one in shares:
                if one.sub.process is process and not (one.done and told):
                    one.loose = True

    def in_touch(self, process: Process) -> None:
        """A member has all that it was owed: it knows which of its jobs are another's now.

        As far as that is the doing of this host: another waits for both to tell what they have.
        """
        takeovers = self._world.takeovers
        for sub in process.subs:
            if sub.serves:
                continue
            for number in sub.hands:
                if sub.ended and (*number, sub.interest.key) not in process.core._jobs:
                    continue  # it is lost, and there is nobody left to tell
                shares = self.shares[self._key(sub, number)]
                others = shares[shares.index(self._mine(sub, number)[-1]) :]
                if any(one.takeovers != takeovers for one in others):
                    continue
                if any(one.sub.process.alive and not one.loose for one in others[1:]):
                    self._fail(f"{sub.name} has {self._name(number)}, and another has it too")

    def must_be_done(self, number: Number, group: str, workers: list[Sub]) -> None:
        """Somebody has done a job, if there was always somebody who could."""
        if not any(sub.active and not sub.process.was_loose for sub in workers):
            return
        if not any(one.done for one in self.shares.get((number, group, b""), [])):
            self._fail(f"job {self._name(number)} of {group!r} is acknowledged and never was done")

    # --- requests, at who waits ------------------------------------------------------------

    def requested(self, waiting: Waiting) -> None:
        number = waiting.process.id, waiting.number
        self._everyone[number] = waiting.everyone
        self._responders[number] = [
            sub
            for sub in self._world.subs()
            if sub.serves
            and sub.active
            and sub.wants(waiting.topic)
            and (not any(waiting.to) or sub.process.id == waiting.to)
        ]

    def replied(self, waiting: Waiting, reply: Publication, failed: bool, body: bytes) -> None:
        """A reply has come: somebody has written it, for this request, and it is his first."""
        number = waiting.process.id, waiting.number
        name, sender = f"request {self._name(number)}", self._world.name_of(reply.sender)
        if waiting.over:
            self._fail(f"{name} is {waiting.over}, and gets a reply of {sender}")
        if failed:
            return  # nobody served it there
        if reply.sender not in self._answers.get(number, ()):
            self._fail(f"{name} gets a reply of {sender}, who gave none")
        if body != self._world.body(waiting.number):
            self._fail(f"{name} gets a reply to another: {body!r}")

    def replied_again(self, waiting: Waiting, reply: Publication, failed: bool) -> None:
        """One whose reply is known says something more, which nobody is told.

        That must be a refusal: a request that was sent again cannot be told by who has answered it,
        and whose reply has arrived, from one that came before he served. He answers it once.
        """
        if not failed or waiting.takeovers == self._world.takeovers:
            name = self._name((waiting.process.id, waiting.number))
            self._fail(f"request {name} gets a second reply of {self._world.name_of(reply.sender)}")

    def named(self, waiting: Waiting) -> None:
        """It is told who replies: as far as they are known."""
        number = waiting.process.id, waiting.number
        responders = self._responders[number]
        self._responders[number] = self._checks.heard_of(waiting.process, number, responders)

    def over(self, waiting: Waiting) -> None:
        """A request has ended: with no reply only when that is so."""
        number = waiting.process.id, waiting.number
        name, how = f"request {self._name(number)}", waiting.over
        self._world.note(f"{waiting.process.name} has an end of {waiting.number}: {how}")
        self.named(waiting)
        responders = self._responders[number]
        willing = [sub for sub in responders if sub.active and not sub.process.was_loose]
        if how in {"NOBODY", "GONE", "refused"} and willing and not waiting.replies:
            self._fail(f"{name}: {how}, with {willing[0].name} there")
        if waiting.everyone:
            self._all_replied(waiting, willing)
        dead = [
            sub
            for sub in self._world.subs()
            if sub.serves and (not sub.process.alive or sub.process.was_loose)
        ]
        gone = any(waiting.to) or any(sub.wants(waiting.topic) for sub in dead)
        if how == "DIED" and not gone:
            self._fail(f"{name}: a responder died, it says, and nobody did")
        if any(waiting.to) and how in {"DIED", "GONE"}:
            asked = self._world.by_id[waiting.to]
            if asked.alive and not asked.was_loose:
                self._fail(f"{name}: {how}, and it lives")

    def _all_replied(self, waiting: Waiting, willing: Sequence[Sub]) -> None:
        if waiting.process.was_loose:
            return
        for sub in willing:
            if sub.process.id not in waiting.replies:
                number = waiting.process.id, waiting.number
                self._fail(f"request {self._name(number)} to all is over, without {sub.name}")
