"""A member's core and a broker that says almost the right things."""

from __future__ import annotations

from collections import Counter

from open_channel.bus.core.subjects import matches
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.limits import Limits
from tests.fuzz.chance import Chance
from tests.fuzz.decoders import check, reason_of
from tests.fuzz.engine import Step
from tests.fuzz.people import Innocent, Sub
from tests.fuzz.speech import BrokerSpeaker

__all__ = ["Members"]

_LIMITS = Limits(outbox=1 << 40)
_ME = bytes((1,)) * 16
_OTHERS = [bytes((number,)) * 16 for number in (2, 3, 4)]


class Members:
    """``MemberCore.receive()``: refuses, or takes it in, with its books in order."""

    name = "members"

    def steps(self, chance: Chance) -> list[Step]:
        speaker = BrokerSpeaker(chance, _ME, _OTHERS)
        steps: list[Step] = []
        for _ in range(80):
            if chance.one_in(8):
                steps.append(self._deed(chance))
            else:
                steps.append(("say", speaker.record()))
        return steps

    def _deed(self, chance: Chance) -> Step:
        kind = int(chance.random() * 7)
        if kind <= 1:
            return ("publish", chance.pick(("news", "jobs")), 1 + int(chance.random() * 3))
        if kind == 2:
            return ("ask", chance.pick([bytes(16), *_OTHERS]))
        if kind == 3:
            return ("work",)
        if kind == 4:
            return ("cancel", 1 + int(chance.random() * 20))
        if kind == 5:
            return ("end", int(chance.random() * 6))
        return ("opened",)

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        me = Innocent(_ME, _LIMITS)
        me.session.welcomed(1, 0, resumed=False)
        # It is told of members with odd ids, and may believe it: they are nobody's.
        me.subs = [
            Sub(me, "news"),
            Sub(me, ">"),
            Sub(me, "held", blocks=True),
            Sub(me, "jobs", group="g"),
            Sub(me, "price", serves=True),
        ]
        me.core.opened()
        inputs = 0
        for step in steps:
            kind, *rest = step
            if kind == "say":
                inputs += 1
                try:
                    me.core.receive(rest[0])
                except RemoteProtocolError as error:
                    refused[reason_of(str(error))] += 1
            else:
                self._do(me, kind, *rest)
            _check(me)
        me.core.flush()
        return inputs

    @staticmethod
    def _do(me: Innocent, kind: str, *rest: object) -> None:
        match kind, rest:
            case "publish", (str(topic), int(count)):
                me.publish(topic, count)
            case "ask", (bytes(to),):
                me.ask(to)
            case "work", ():
                me.work()
            case "cancel", (int(seq),):
                me.core.cancel(seq)
            case "end", (int(index),) if index < len(me.subs):
                me.core.unsubscribe(me.subs.pop(index).interest, [])
            case "opened", ():
                me.session.lost()
                me.session.welcomed(2, 0, resumed=False)
                me.core.opened()


def _check(me: Innocent) -> None:
    core = me.core
    check(min(core.sizes) >= 0, f"less than nothing is held: {core.sizes}")
    check(sum(core.sizes) == sum(held.size for held in core._held.values()), "other sizes")
    for sub in me.subs:
        check(matches(sub.interest.pattern, sub.interest.pattern), "its pattern")
        for numbers in sub.got.values():
            check(all(0 < number < 1 << 63 for number in numbers[-9:]), "an odd number")
    # What comes and is not for any subscription here must not pile up.
    check(len(core._jobs) <= 400, f"{len(core._jobs)} jobs in hand")
