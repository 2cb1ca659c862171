"""The innocent: members that do what they should, and write down what came of it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from open_channel.bus.core.interests import Interest
from open_channel.bus.core.member import MemberCore
from open_channel.bus.core.mixed import Mixed
from open_channel.bus.core.records import End, MemberInfo, Publication
from open_channel.bus.core.subjects import matches
from open_channel.protocol.limits import Limits
from open_channel.protocol.session import Session
from tests.fuzz.decoders import check

__all__ = ["Ask", "Innocent", "Sub", "innocents", "judge"]

_TOPICS: dict[str, bytes] = {name: name.encode() for name in ("news", "jobs", "held", "price")}
_SIZE = 3
"""Bytes of a message: its number."""


class Sub:
    """One subscription: see ``Sink``."""

    def __init__(
        self,
        owner: Innocent,
        pattern: str,
        *,
        group: str = "",
        serves: bool = False,
        blocks: bool = False,
    ) -> None:
        self.owner = owner
        self.confirmed = False
        self.got: dict[bytes, list[int]] = defaultdict(list)
        self.jobs: deque[tuple[bytes, int]] = deque()
        self.interest = owner.core.subscribe(
            lambda number: Interest(
                number, pattern, self, group=group, serves=serves, blocks=blocks, prefetch=2
            )
        )

    def live(self) -> None:
        self.confirmed = True

    def deliver(self, publication: Publication, messages: Sequence[bytes]) -> None:
        check(len(messages) == publication.total, "another number of messages")
        self.got[publication.sender] += range(publication.first, publication.last + 1)
        if self.interest.blocks:
            self.owner.core.took(self.interest, publication.sender, publication.last)

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        check(len(messages) == len(topics) > 0, "another number of messages")
        fits = all(matches(self.interest.pattern, topic) for topic in topics)
        check(fits, "messages to other topics")
        span = range(mixed.first, mixed.last + 1)
        # The innocent number what they say; of others it does not matter which it is.
        numbers = [int.from_bytes(body[:_SIZE], "big") for body in messages]
        if not all(number in span for number in numbers):
            numbers = list(span[: len(messages)])
        self.got[mixed.sender] += numbers
        if self.interest.blocks:
            self.owner.core.took(self.interest, mixed.sender, mixed.last)

    def job(self, publication: Publication, seq: int, message: bytes, redelivered: bool) -> None:
        self.owner.begun.append((publication.sender, seq, self.interest.key))
        self.jobs.append((publication.sender, seq))

    def missing(self, count: int) -> None:
        """A hostile member may say that its own messages were acknowledged without us."""

    def lost(self, publisher: bytes, seq: int) -> None:
        if (publisher, seq) in self.jobs:
            self.jobs.remove((publisher, seq))


class Ask:
    """One request: see ``Awaiting``."""

    def __init__(self, to: bytes) -> None:
        self.to = to
        self.number = 0
        self.over = False

    def replied(self, publication: Publication, failed: bool, body: bytes) -> bool:
        self.over = True
        return True

    def ended(self, why: End) -> None:
        self.over = True

    def responders(self, members: Sequence[bytes]) -> bool:
        return False

    def left(self, member: bytes) -> bool:
        self.over = self.over or member == self.to
        return self.over


class Innocent:
    """One member: its core, its session, and what it has done."""

    def __init__(self, member: bytes, limits: Limits) -> None:
        self.id = member
        self.session = Session(limits, hosts=False, carries=False)
        self.core = MemberCore(MemberInfo(member, 7, {}), self.session.outbox, self)
        self.subs: list[Sub] = []
        self.asks: list[Ask] = []
        self.published: dict[str, list[int]] = defaultdict(list)
        self.begun: list[tuple[bytes, int, str]] = []
        self.gone: list[bytes] = []

    def publish(self, topic: str, count: int, size: int = _SIZE) -> None:
        for _ in range(count):
            number = self.core.last + 1
            body = number.to_bytes(_SIZE, "big") + bytes(size - _SIZE)
            self.core.publish(_TOPICS[topic], body, 0)
            self.published[topic].append(number)

    def ask(self, to: bytes) -> None:
        ask = Ask(to)
        self.asks.append(ask)
        ask.number = self.core.request(b"price", to, b"?", 0, ask)

    def work(self) -> bool:
        """Do the jobs, answer the requests; whether there was anything to do."""
        worked = False
        for sub in self.subs:
            while sub.jobs:
                publisher, seq = sub.jobs.popleft()
                worked = True
                if sub.interest.serves:
                    self.core.reply(publisher, seq, False, b"42", 0)
                else:
                    self.core.done(sub.interest, publisher, seq)
        return worked

    # --- what the core tells: see ``MemberUser`` --------------------------------------------

    def joined(self, member: MemberInfo) -> None:
        check(len(member.id) == 16, "a member with another kind of id")

    def left(self, member: MemberInfo) -> None:
        self.gone.append(member.id)

    def has_room(self) -> None:
        """They never wait."""


def innocents(limits: Limits) -> list[Innocent]:
    """Three of them, with a subscription of each kind."""
    people = [Innocent(bytes((number,)) * 16, limits) for number in (1, 2, 3)]
    first, second, third = people
    first.subs = [Sub(first, "news"), Sub(first, "held", blocks=True)]
    second.subs = [Sub(second, "news"), Sub(second, "jobs", group="g")]
    third.subs = [Sub(third, "jobs", group="g"), Sub(third, "price", serves=True)]
    third.subs.append(Sub(third, "news"))
    return people


def judge(people: list[Innocent], forged: set[tuple[bytes, int, str]] | None) -> None:
    """What must hold once nothing is on its way any more.

    ``forged`` are the jobs that a hostile member had in hand, or said to be done; None: any.
    """
    for who in people:
        check(who.core.held == 0, f"{who.core.held} publications are never acknowledged")
        for ask in who.asks:
            # A broker believes whoever says that a request was answered.
            answered = forged is None or (who.id, ask.number, "") in forged
            check(ask.over or answered, "a request never ends")
        check(not {p.id for p in people} & set(who.gone), "an innocent member is said to have left")
        for sub in who.subs:
            pattern = sub.interest.pattern
            if sub.interest.group or sub.interest.serves:
                continue
            for publisher in people:
                sent, got = publisher.published[pattern], sub.got[publisher.id]
                check(got == sent, f"{len(got)} messages of {len(sent)}, or in another order")
    # Of their own: who comes back under its id may give its old numbers to other jobs.
    mine = {p.id for p in people}
    begun = [job for who in people for job in who.begun if job[2] and job[0] in mine]
    check(len(begun) == len(set(begun)), "a job was begun twice")
    wanted = {(p.id, seq, "g jobs") for p in people for seq in p.published["jobs"]}
    if forged is not None:
        undone = wanted - set(begun) - forged
        check(not undone, f"{len(undone)} jobs nobody has done")
    check(set(begun) <= wanted, "a job that nobody published")
