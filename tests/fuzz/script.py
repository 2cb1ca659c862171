"""The script of a case at a host's sockets: who connects, what is written, what is read."""

from __future__ import annotations

from open_channel.bus.core import records as r
from open_channel.protocol.control import Hello, encode_hello
from open_channel.protocol.frames import Kind
from tests.fuzz import shared
from tests.fuzz.chance import Chance
from tests.fuzz.engine import Step
from tests.fuzz.speech import Speaker, frame, hello, messages

__all__ = ["Script", "again"]

_STEP = 1000  # between two counters, for those who connect again in between


class Script:
    """Makes the steps of one case."""

    def __init__(
        self,
        chance: Chance,
        people: list[bytes],
        hostile: list[bytes],
        hosting: int,
        *,
        forges: bool = True,
    ) -> None:
        self.chance = chance
        self.people = people
        self.hostile = hostile
        self.hosting = hosting
        self.speakers = [Speaker(chance, me, [*people, *hostile], forges=forges) for me in hostile]
        self.counters = [0, 0]
        self.out: list[Step] = []

    def steps(self) -> list[Step]:
        chance = self.chance
        for who in (0, 1):
            self._connect(who)
        for _ in range(60):
            who = 0 if chance.one_in(2) else 1
            kind = chance.random()
            if kind < 0.55:
                self.out.append(("send", who, self._frame(who), chance.pick((0, 0, 0, 5, 40))))
            elif kind < 0.64:
                topic = chance.pick(("news", "jobs", "held"))
                self.out.append(("publish", int(chance.random() * 3), topic, 1))
            elif kind < 0.67:
                to = chance.pick((r.NOBODY, *self.people, *self.hostile))
                self.out.append(("ask", int(chance.random() * 3), to))
            elif kind < 0.78:
                self.out.append(("read", who, chance.pick((0, 0, 1, -1, 3, 1 << 20))))
            elif kind < 0.82:
                self.out.append(("flood", who, self._flood(who), 40))
            elif kind < 0.86:
                self.out.append(("sleep", chance.pick((0.01, 0.3, 1.2, 3.0))))
            elif kind < 0.9:
                self.out.append(("drop", who))
            else:
                self._connect(who)
        return self.out

    def _connect(self, who: int) -> None:
        chance = self.chance
        member = self.hostile[who]
        self.counters[who] += _STEP
        counter = self.counters[who]
        if chance.one_in(12):
            counter = chance.pick((0, 1, counter - 1, 2**64 - 1))
        if chance.one_in(10):
            member = chance.pick(self.people)
            counter = chance.pick((counter, 2**40, 2**64 - 1))
        hosting = chance.pick((0, self.hosting, self.hosting, 1))
        data = hello(chance, member, counter, hosting, int(chance.random() * 12))
        self.out.append(("connect", who, data, self.counters[who]))
        if hosting != self.hosting or counter == _STEP:
            self.speakers[who].next = 1 if chance.one_in(2) else self.speakers[who].next
            self.out.append(("send", who, messages([self.speakers[who].snapshot()]), 0))

    def _frame(self, who: int) -> bytes:
        chance, speaker = self.chance, self.speakers[who]
        kind = chance.random()
        if kind < 0.75:
            bodies = [speaker.record() for _ in range(1 + int(chance.random() * 3))]
            data = messages(bodies, int(chance.random() * 6) if chance.one_in(3) else 0)
        elif kind < 0.85:
            ack = chance.number() if chance.one_in(5) else int(chance.random() * 12)
            data = frame(Kind.ACK, 0, ack)
        elif kind < 0.9:
            data = frame(int(chance.random() * 14), chance.number(32), chance.number(), b"")
        elif kind < 0.91:
            data = frame(chance.pick((Kind.END, Kind.GOODBYE)))
        elif kind < 0.92:
            data = shared.offer(chance) + shared.told(chance, speaker)
            if chance.one_in(3):
                data += shared.said(chance)
        elif kind < 0.94:
            data = frame(Kind.MESSAGES, 1, 0, bytes(4) * chance.pick((0, 1, 3000, 20000)))
        else:
            data = chance.blob(200)
        return chance.mutate(data) if chance.one_in(20) else data

    def _flood(self, who: int) -> bytes:
        """One frame that will come many times."""
        speaker = self.speakers[who]
        topic = self.chance.pick(("news", "own", "held"))
        bodies = [bytes(500)] * 4
        record = speaker.publication(r.PUBLISH, 0, topic, r.NOBODY, bodies)
        return messages([record, speaker._subscribe()])


def again(member: bytes, counter: int) -> bytes:
    """How one whose session was ended begins another, as it should."""
    first = Hello("b", member, counter, 0, 0, 1 << 22, 1 << 26)
    snapshot = r.Snapshot(r.MemberInfo(member, 8, {}), [], [], [], {}, [])
    return encode_hello(first) + messages([r.encode_control(snapshot)])
