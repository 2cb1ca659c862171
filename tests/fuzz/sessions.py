"""A session between its user and a peer that counts, acknowledges and sends as it likes."""

from __future__ import annotations

from collections import Counter

from open_channel.errors import RemoteProtocolError
from open_channel.protocol.batches import OVERHEAD, pack
from open_channel.protocol.frames import Decoder, Frame, Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.session import Session
from open_channel.protocol.states import SessionState
from tests.fuzz.chance import Chance
from tests.fuzz.decoders import check, reason_of
from tests.fuzz.engine import Step

__all__ = ["Sessions"]

_LIMITS = Limits(max_message=4000, window=2048, outbox=8192, drain=4096)
_STREAM = {int(Kind.MESSAGES), int(Kind.END)}


class Sessions:
    """Inbox and outbox: their sums are right, and their bounds hold, whatever the peer says."""

    name = "sessions"

    def steps(self, chance: Chance) -> list[Step]:
        steps: list[Step] = [("side", chance.one_in(2), int(chance.random() * 2) * 8)]
        for _ in range(60):
            kind = chance.random()
            if kind < 0.55:
                steps.append(("frame", *self._frame(chance)))
            elif kind < 0.7:
                steps.append(("write", chance.pick((0, 5, 128, 300, 2000, 4000))))
            elif kind < 0.8:
                steps.append(("transmit", chance.pick((1, 1000, 100000))))
            elif kind < 0.92:
                steps.append(("take", int(chance.random() * 5)))
            elif kind < 0.97:
                steps.append(("resume", self._count(chance)))
            elif kind < 0.99:
                steps.append(("restart",))
            else:
                steps.append(("finish",))
        return steps

    @staticmethod
    def _count(chance: Chance) -> int:
        """A number that is compared with how much was sent."""
        return chance.number() if chance.one_in(6) else int(chance.random() * 14)

    def _frame(self, chance: Chance) -> tuple[int, int, int, int, bytes]:
        kind = chance.pick((4, 4, 4, 4, 6, 6, 5, 7))
        if kind == Kind.END and not chance.one_in(4):
            kind = 6
        number, payload = 0, b""
        if kind == Kind.MESSAGES:
            number = 1 + int(chance.random() * 4)
            if chance.one_in(10):
                bodies = [bytes(chance.pick((1000, 2044, 3000, 3996)))]
            else:
                bodies = [chance.blob() for _ in range(number)]
            number, payload = len(bodies), pack(bodies)
            if chance.one_in(10):
                payload = chance.mutate(payload)
            if chance.one_in(10):
                number = chance.number(32)
        return kind, chance.pick((0, 0, 1, 255)), number, self._count(chance), payload

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        hosts, patience = True, 0
        if steps and steps[0][0] == "side":
            _, hosts, patience = steps[0]
        peer = Peer(hosts, patience)
        for step in steps:
            if step[0] == "side":
                continue
            try:
                getattr(peer, step[0])(*step[1:])
            except RemoteProtocolError as error:
                refused[reason_of(str(error))] += 1
                peer.cut()
            peer.check()
        return len(steps)


class Peer:
    """The session, and what is done with it."""

    def __init__(self, hosts: bool, patience: int) -> None:
        self.session = Session(_LIMITS, hosts=hosts)
        self.session.patience = patience
        self.session.welcomed(1, 0, resumed=False)
        self.biggest = 0

    @property
    def open(self) -> bool:
        return self.session.state is SessionState.OPEN

    def cut(self) -> None:
        if self.open:
            self.session.lost()

    def frame(self, kind: int, flags: int, number: int, ack: int, payload: bytes) -> None:
        if not self.open:
            return
        inbox, outbox = self.session.inbox, self.session.outbox
        if kind in _STREAM:
            self.biggest = max(self.biggest, len(payload))
            inbox.receive(Frame(kind, flags, number, ack, memoryview(payload)))
        outbox.acknowledge(ack)

    def write(self, size: int) -> None:
        outbox = self.session.outbox
        if not self.session.inbox.ended and outbox.size + size + OVERHEAD < _LIMITS.outbox:
            outbox.write(bytes(size))

    def transmit(self, limit: int) -> None:
        if not self.open:
            return
        data = b"".join(self.session.transmit(limit))
        decoder = Decoder(_LIMITS.max_payload)
        while data:
            room = decoder.get_buffer()
            count = min(len(room), len(data))
            room[:count] = data[:count]
            data = data[count:]
            for found in decoder.received(count):
                check(found.ack <= self.session.inbox.received, "acknowledges what never came")

    def take(self, count: int) -> None:
        inbox = self.session.inbox
        while count and inbox.messages:
            inbox.messages.popleft()
            count -= 1

    def resume(self, received: int) -> None:
        self.cut()
        try:
            self.session.welcomed(1, received, resumed=True)
        except RemoteProtocolError:
            self.session.welcomed(1, 0, resumed=False)  # as good as another member
            raise

    def restart(self) -> None:
        self.cut()
        self.session.welcomed(1, 0, resumed=False)

    def finish(self) -> None:
        self.session.outbox.finish()

    def check(self) -> None:
        inbox, outbox = self.session.inbox, self.session.outbox
        check(inbox.consumed() <= inbox.received, "consumed more than received")
        waiting = sum(map(len, inbox.messages)) + OVERHEAD * len(inbox.messages)
        most = max(_LIMITS.window + OVERHEAD, _LIMITS.window // 4 + self.biggest)
        # What an earlier hosting's messages take comes beside it.
        check(waiting <= 2 * most, f"{waiting} bytes wait in the inbox")
        check(outbox.acknowledged >= 0, "acknowledged less than nothing")
        kept = [*outbox._sent, *outbox.unsent]
        size = sum(batch.size for batch in kept) + outbox._pending_size
        check(outbox.size == size, f"the outbox holds {size}, and says {outbox.size}")
        flying = sum(batch.size for batch in outbox._sent)
        check(outbox._in_flight == flying, "another number of bytes in flight")
        numbers = [batch.last for batch in kept]
        check(numbers == sorted(set(numbers)), "batches out of order")
        check(outbox._acked <= outbox._sent_last <= outbox._sealed, "numbers out of order")
