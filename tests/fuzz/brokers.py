"""A broker between members that do what they should, and others that do not."""

from __future__ import annotations

from collections import Counter

import msgspec

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply
from open_channel.bus.core.broker import Bounds, Broker
from open_channel.bus.core.records import MemberInfo
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import unpack
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox
from tests.fuzz.chance import Chance
from tests.fuzz.decoders import check, reason_of
from tests.fuzz.engine import Step
from tests.fuzz.people import Innocent, innocents, judge
from tests.fuzz.speech import Speaker

__all__ = ["HOSTILE", "Brokers", "no_trace"]

_LIMITS = Limits(outbox=1 << 40)
_BOUNDS = Bounds(grace=6.0, lag=1.0, queue=1 << 16, feed=1 << 14)
_PEOPLE = [bytes((number,)) * 16 for number in (1, 2, 3)]
HOSTILE = [bytes((number,)) * 16 for number in (0xA0, 0xA1)]
_GHOST = bytes((0xB0,)) * 16


class Brokers:
    """``Broker.received()``: the innocent notice nothing, and nothing is left behind."""

    name = "brokers"

    def steps(self, chance: Chance) -> list[Step]:
        speakers = [Speaker(chance, me, [*_PEOPLE, *HOSTILE]) for me in HOSTILE]
        steps: list[Step] = [("begin", chance.one_in(3), chance.one_in(3))]
        begun = [False, False]
        for _ in range(70):
            who = 0 if chance.one_in(2) else 1
            kind = chance.random()
            if kind < 0.72:
                if not begun[who] and not chance.one_in(12):
                    steps.append(("say", who, speakers[who].snapshot()))
                    begun[who] = True
                steps.append(("say", who, speakers[who].record()))
            elif kind < 0.82:
                topic = chance.pick(("news", "jobs", "held"))
                count = 1 + int(chance.random() * 3)
                steps.append(("publish", int(chance.random() * 3), topic, count))
            elif kind < 0.85:
                steps.append(("ask", int(chance.random() * 3), self._to(chance)))
            elif kind < 0.9:
                steps.append(("read", who))
            elif kind < 0.93:
                steps.append(("pump",))
            elif kind < 0.95:
                steps.append(("back", int(chance.random() * 3)))
            elif kind < 0.97:
                steps.append(("tick", chance.pick((0.1, 0.9, 1.5, 7.0))))
            else:
                steps.append(("leave", who))
                begun[who] = False
        return steps

    @staticmethod
    def _to(chance: Chance) -> bytes:
        return chance.pick((r.NOBODY, r.NOBODY, *_PEOPLE, *HOSTILE))

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        expects, merges = False, False
        if steps and steps[0][0] == "begin":
            _, expects, merges = steps[0]
        bench = Bench(refused, expects=expects, merges=merges)
        for kind, *rest in steps:
            if kind != "begin":
                getattr(bench, kind)(*rest)
        bench.end()
        return bench.inputs


class Bench:
    """The broker and all who talk to it."""

    def __init__(self, refused: Counter[str], *, expects: bool, merges: bool) -> None:
        self.refused = refused
        self.inputs = 0
        self.now = 0.0
        self.people = innocents(_LIMITS)
        self.forged: set[tuple[bytes, int, str]] = set()
        self.boxes: dict[bytes, Outbox] = {}
        self.taken: Counter[bytes] = Counter()
        self.hosting = 0
        # A first broker confirms what they subscribe to; the second has all that befalls it.
        self._host([], merges=False)
        for index in range(3):
            self.back(index)
        self.pump()
        check(all(sub.confirmed for who in self.people for sub in who.subs), "not confirmed")
        ghosts = [_GHOST] if expects else []
        self._host([*_PEOPLE, *ghosts], merges=merges)
        if not expects:
            for index in range(3):
                self.back(index)
            self.pump()

    def _host(self, expected: list[bytes], *, merges: bool) -> None:
        infos = [MemberInfo(member, 7, {}) for member in expected]
        self.broker = Broker(infos, _BOUNDS, self.now, lineage=int(merges))
        self.boxes.clear()
        self.taken.clear()
        self.hosting += 1

    def _box(self, member: bytes) -> Outbox:
        if member not in self.boxes:
            self.boxes[member] = Outbox(_LIMITS, lambda: 0)
            self.taken[member] = 0
        return self.boxes[member]

    # --- the innocent ----------------------------------------------------------------------

    def back(self, index: int) -> None:
        """One of them opens its session with this broker."""
        who = self.people[index]
        if who.session.hosting != self.hosting:
            if who.session.hosting:
                who.session.lost()
            who.session.welcomed(self.hosting, 0, resumed=False)
            who.core.opened()

    def publish(self, index: int, topic: str, count: int) -> None:
        self.people[index].publish(topic, count)

    def ask(self, index: int, to: bytes) -> None:
        self.people[index].ask(to)

    def pump(self) -> None:
        """All that is on its way between them arrives."""
        moved = True
        while moved:
            moved = False
            for who in self.people:
                if who.session.hosting == self.hosting:
                    moved |= self._pump_one(who)
            self.broker.flush()

    def _pump_one(self, who: Innocent) -> bool:
        who.work()
        who.core.flush()
        box = self._box(who.id)
        said = _take(who.session.outbox)
        for record in said:
            self.broker.received(who.id, box, record, self.now)
        self.broker.flush()
        heard = _take(box)
        for record in heard:
            who.core.receive(record)
        if heard:
            self.taken[who.id] += len(heard)
            box.acknowledge(self.taken[who.id])
            self.broker.acknowledged(who.id, self.now)
        return bool(said or heard)

    # --- the hostile -----------------------------------------------------------------------

    def say(self, who: int, record: bytes) -> None:
        self.inputs += 1
        self._note(record)
        try:
            self.broker.received(HOSTILE[who], self._box(HOSTILE[who]), record, self.now)
        except RemoteProtocolError as error:
            self.refused[reason_of(str(error))] += 1

    def _note(self, record: bytes) -> None:
        """Which jobs it says are done, or in its hands: those are no innocent's loss."""
        for job in forged_in(record):
            self.forged.add(job)

    def read(self, who: int) -> None:
        member = HOSTILE[who]
        self.broker.flush()
        heard = _take(self._box(member))
        for record in heard:
            if record[0] == r.JOB:
                job = r.decode_job(record)
                self.forged.add((job.publication.sender, job.seq, "g jobs"))
        if heard:
            self.taken[member] += len(heard)
            self._box(member).acknowledge(self.taken[member])
            self.broker.acknowledged(member, self.now)

    def leave(self, who: int) -> None:
        self.broker.left(HOSTILE[who], self.now)
        self.boxes.pop(HOSTILE[who], None)

    # --- time, and the end -----------------------------------------------------------------

    def tick(self, seconds: float) -> None:
        for index in range(3):
            self.back(index)  # whoever comes after the grace may have missed something
        self.pump()
        self.now += seconds
        self.broker.tick(self.now)
        self.broker.flush()

    def end(self) -> None:
        self.tick(0.0)
        for who in range(len(HOSTILE)):
            self.leave(who)
        for member in [m for m in self.broker.seats if m not in _PEOPLE]:
            self.broker.left(member, self.now)
        self.pump()
        self.tick(8.0)
        self.pump()
        judge(self.people, self.forged)
        no_trace(self.broker, _PEOPLE)


def _take(outbox: Outbox) -> list[bytes]:
    batches = outbox.take(1 << 40)
    return [m for batch in batches for m in unpack(b"".join(batch.payload), batch.count)]


def forged_in(record: bytes) -> list[tuple[bytes, int, str]]:
    """The jobs that a record says are done, or in hand."""
    try:
        if record[:1] == bytes((r.DIRECT,)):
            publication = r.parse(record)
            if publication.flags & r.Flag.REPLY:
                seqs = [decode_reply(message)[0] for message in publication.messages()]
                return [(publication.to, seq, "") for seq in seqs]
            if publication.flags & r.Flag.DONE:
                messages = publication.messages()
                done = [job for message in messages for job in decode_done(message)]
                return [(publication.to, seq, group) for seq, group in done]
        elif record[:1] == bytes((r.CONTROL,)):
            control = r.decode_control(record)
            if isinstance(control, r.Snapshot):
                return [(job.publisher, job.seq, job.group) for job in control.jobs]
    except (RemoteProtocolError, msgspec.MsgspecError, IndexError):
        pass
    return []


def no_trace(broker: Broker, people: list[bytes]) -> None:
    """Nothing is left of those who have gone."""
    routing = broker.routing
    check(set(broker.seats) == set(people), "seats of members that have gone")
    check(not broker.expected, "somebody is expected who has gone")
    for name in ("_open", "_later", "_in_hand", "_finished"):
        check(not getattr(routing.jobs, name), f"{name} is not empty")
    for name in ("_homeless", "_asked"):
        check(not getattr(routing, name), f"{name} is not empty")
    check(set(routing._groups) <= {"g jobs"}, f"groups {list(routing._groups)}")
    check(set(routing._responders) <= {"price"}, f"responders {list(routing._responders)}")
    for index, most in (
        (routing._routes.plain, 4),
        (routing._routes.shared, 1),
        (routing._services, 1),
    ):
        literal = sum(len(values) for values in index._literal.values())
        check(literal <= most, "subscriptions of members that have gone")
        root = index._root
        check(not (root.next or root.any or root.ends or root.rest), "patterns of the gone")
    for seat in broker.seats.values():
        check(not seat.owed and not seat.queue and not seat.jobs, "something is owed")
        check(set(seat.without) <= set(people), "left out: somebody who has gone")
        check(not seat.without, "an innocent member was left out")
        check(not seat.gaps, "a gap is remembered that nobody waits for")
