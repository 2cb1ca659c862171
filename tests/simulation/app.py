"""What the members' users do: they take messages, do jobs, answer requests, wait for replies."""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING

from open_channel.bus.core.interests import Interest
from open_channel.bus.core.records import End
from open_channel.bus.core.subjects import matches
from tests.simulation.coverage import taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from open_channel.bus.core.mixed import Mixed
    from open_channel.bus.core.records import Publication
    from tests.simulation.process import Process

_fits = cache(matches)

Number = tuple[bytes, int]
"""A message: its publisher, and its number."""


class Sub:
    """One subscription's user: see ``Sink``."""

    def __init__(
        self,
        process: Process,
        pattern: str,
        *,
        group: str = "",
        serves: bool = False,
        blocks: bool = False,
        prefetch: int = 1,
    ) -> None:
        self.process = process
        self.pattern = pattern
        self.group = group
        self.serves = serves
        self.blocks = blocks
        self.prefetch = prefetch
        self.confirmed = False
        self.ended = False
        self.told: list[tuple[int, int]] = []
        """When it was told that messages are missing, in steps, and how many."""
        self.came: dict[bytes, list[tuple[int, int]]] = {}
        """{publisher: (the first of some messages that came together, when)}."""
        self.high: dict[bytes, int] = {}
        self.got: set[Number] = set()
        self.untaken: deque[tuple[bytes, int, int]] = deque()
        """Of a blocking one: publisher, first and last number."""
        self.hands: dict[Number, bool] = {}
        """Jobs and requests in hand; whether it came a second time."""
        self.begun: set[Number] = set()
        """All that it ever had in hand."""
        self.interest: Interest = process.core.subscribe(self._make)
        self.name = f"{process.name}.s{self.interest.id}"

    def _make(self, number: int) -> Interest:
        return Interest(
            number,
            self.pattern,
            self,
            group=self.group,
            serves=self.serves,
            blocks=self.blocks,
            prefetch=self.prefetch,
        )

    @property
    def plain(self) -> bool:
        return not self.group and not self.serves

    @property
    def active(self) -> bool:
        """Whether it can rely on what is published now."""
        return self.confirmed and not self.ended and self.process.alive

    def knows(self, publisher: bytes, seq: int, since: int) -> bool:
        """Whether it was told that something is missing, since ``since`` and before the next."""
        later = [when for first, when in self.came.get(publisher, []) if first > seq]
        return any(since <= when and (not later or when <= later[0]) for when, _ in self.told)

    def wants(self, topic: str) -> bool:
        return _fits(self.pattern, topic)

    def end(self, *, keeps: bool) -> None:
        """Leave; what it ``keeps``, and all that a responder works on, is finished still."""
        keeps = keeps or self.serves
        self.process.core.unsubscribe(self.interest, list(self.hands) if keeps else [])
        self.ended = True
        if not keeps:
            for number in self.hands:
                self.process.world.checks.work.dropped(self, number)
            self.hands.clear()
        self.untaken.clear()

    def take(self) -> None:
        """Take one of the messages that wait."""
        publisher, _, last = self.untaken.popleft()
        self.process.core.took(self.interest, publisher, last)

    def finish(self, number: Number, *, done: bool) -> None:
        """A job is done, or given back."""
        del self.hands[number]
        core, work = self.process.core, self.process.world.checks.work
        if done:
            work.done(self, number, accepted=core.done(self.interest, *number))
        else:
            work.dropped(self, number)
            core.reject(self.interest, *number)

    def answer(self, number: Number) -> None:
        """Reply to a request."""
        del self.hands[number]
        self.process.core.reply(*number, False, self.process.world.body(number[1]), 0)
        self.process.world.checks.work.done(self, number)

    # --- what the core tells ---------------------------------------------------------------

    def live(self) -> None:
        self.process.world.checks.live(self)
        self.confirmed = True

    def deliver(self, publication: Publication, messages: Sequence[bytes]) -> None:
        assert self.plain
        assert len(messages) == publication.total
        self.process.world.checks.delivered(self, publication, messages)
        if self.blocks:
            self.untaken.append((publication.sender, publication.first, publication.last))

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        assert self.plain
        self.process.world.checks.delivered_mixed(self, mixed, topics, messages)
        if self.blocks:
            self.untaken.append((mixed.sender, mixed.first, mixed.last))

    def job(self, publication: Publication, seq: int, message: bytes, redelivered: bool) -> None:
        number = publication.sender, seq
        checks = self.process.world.checks
        checks.work.begun(self, number, publication.topic, message, redelivered)
        self.hands[number] = redelivered
        self.begun.add(number)

    def missing(self, count: int) -> None:
        self.process.world.checks.missing(self, count)
        self.told.append((self.process.world.steps, count))

    def lost(self, publisher: bytes, seq: int) -> None:
        self.process.world.note(f"{self.name} is told that it lost a job")
        if not self.serves and self.hands.pop((publisher, seq), None) is not None:
            self.process.world.checks.work.lost(self, (publisher, seq))


class Waiting:
    """Who waits for the reply to a request: see ``Awaiting``; a mirror of ``bus.requests``."""

    def __init__(self, process: Process, topic: str, to: bytes, *, everyone: bool) -> None:
        self.process = process
        self.topic = topic
        self.to = to
        self.everyone = everyone
        self.replies: set[bytes] = set()
        self.over = ""
        """How it ended."""
        self.number = 0
        self.takeovers = process.world.takeovers
        """... there were when it was made."""
        self._missing: set[bytes] | None = None

    def note(self, how: str) -> None:
        """Count how it ended."""
        kind = "all" if self.everyone else "direct" if any(self.to) else "one"
        taken["ASKED", kind, how] += 1

    def _finish(self, how: str) -> bool:
        self.over = how
        self.process.world.checks.work.over(self)
        self.note(how)
        return True

    def replied(self, publication: Publication, failed: bool, body: bytes) -> bool:
        work = self.process.world.checks.work
        if publication.sender in self.replies:
            work.replied_again(self, publication, failed)
            return False
        work.replied(self, publication, failed, body)
        self.replies.add(publication.sender)
        if self._missing is not None:
            self._missing.discard(publication.sender)
        if self.everyone and (self._missing is None or self._missing):
            return False
        return self._finish("refused" if failed else "replied")

    def ended(self, why: End) -> None:
        self._finish(why.name)

    def responders(self, members: Sequence[bytes]) -> bool:
        self.process.world.checks.work.named(self)
        self._missing = set(members) - self.replies
        return not self._missing and self._finish("replied")

    def left(self, member: bytes) -> bool:
        if member == self.to and any(member):
            return self._finish("DIED")
        if self._missing is not None and member in self._missing:
            self._missing.discard(member)
            return not self._missing and self._finish("DIED")
        return False
