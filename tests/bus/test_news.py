"""Who has come is told to all at once, however many come together."""

from __future__ import annotations

from open_channel.bus.core import records as r
from open_channel.bus.core.broker import Bounds, Broker
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox

BOUNDS = Bounds(grace=6.0, lag=1.0, queue=1 << 20, feed=1 << 20)


class Member:
    """One that has opened its session."""

    def __init__(self, broker: Broker, number: int, now: float) -> None:
        self.id = number.to_bytes(16, "big")
        self.outbox = Outbox(Limits(), lambda: 0)
        self.broker = broker
        info = r.MemberInfo(self.id, number, {})
        for record in (r.Snapshot(info, [], [], [], {}, []), r.Resent()):
            broker.received(self.id, self.outbox, r.encode_control(record), now)

    def publish(self, now: float) -> None:
        record = r.encode_publication(r.PUBLISH, 0, b"t", 1, self.id, r.NOBODY, [b"x"])
        self.broker.received(self.id, self.outbox, record, now)

    def heard(self) -> list[bytes]:
        """Who has come, as it was told since it was asked last."""
        records, self.outbox.pending[:] = list(self.outbox.pending), []
        controls = [r.decode_control(record) for record in records if record[0] == r.CONTROL]
        return [record.member.id for record in controls if isinstance(record, r.Joined)]


def test_the_first_is_told_at_once_and_the_next_together():
    broker = Broker([], BOUNDS, 100.0)
    first, second = Member(broker, 1, 100.0), Member(broker, 2, 100.0)
    broker.flush()
    assert first.heard() == [second.id]
    crowd = [Member(broker, number, 100.001) for number in range(3, 10)]
    broker.flush()
    assert first.heard() == []
    due = broker.deadline
    assert due is not None
    assert 100.0 < due < 100.1
    broker.tick(due)
    broker.flush()
    assert first.heard() == [member.id for member in crowd]
    assert broker.deadline is None


def test_nobody_hears_of_a_member_before_he_hears_that_it_has_come():
    broker = Broker([], BOUNDS, 100.0)
    first, second = Member(broker, 1, 100.0), Member(broker, 2, 100.0)
    broker.flush()
    assert first.heard() == [second.id]
    third = Member(broker, 3, 100.001)
    broker.flush()
    third.publish(100.002)
    broker.flush()
    assert first.heard() == [third.id]


def test_one_that_has_left_meanwhile_is_said_to_have_come_and_left():
    broker = Broker([], BOUNDS, 100.0)
    first, _ = Member(broker, 1, 100.0), Member(broker, 2, 100.0)
    broker.flush()
    first.heard()
    third = Member(broker, 3, 100.001)
    broker.left(third.id, 100.002)
    broker.flush()
    kinds = [type(r.decode_control(record)) for record in first.outbox.pending]
    assert kinds == [r.Joined, r.Left]
