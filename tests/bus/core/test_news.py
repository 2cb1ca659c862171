"""Who has come is told to all at once, however many come together, and then to the newcomers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.broker import Bounds, Broker
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox

BOUNDS = Bounds(grace=6.0, lag=1.0, queue=1 << 20, feed=1 << 20)


class Member:
    """One that has opened its session."""

    def __init__(
        self, broker: Broker, number: int, now: float, roster: Sequence[r.MemberInfo] = ()
    ) -> None:
        self.id = number.to_bytes(16, "big")
        self.outbox = Outbox(Limits(), lambda: 0)
        self.broker = broker
        info = r.MemberInfo(self.id, number, {})
        for record in (r.Snapshot(info, [], [], [], {}, [*roster], 1), r.Resent()):
            broker.received(self.id, self.outbox, r.encode_control(record), now)

    def publish(self, now: float) -> None:
        record = r.encode_publication(r.PUBLISH, 0, b"t", 1, self.id, r.NOBODY, [b"x"])
        self.broker.received(self.id, self.outbox, record, now)

    def controls(self) -> list[r.Control]:
        """What it was told since it was asked last."""
        records, self.outbox.pending[:] = list(self.outbox.pending), []
        return [r.decode_control(record) for record in records if record[0] == r.CONTROL]

    def heard(self) -> list[bytes]:
        """Who has come, as it was told since it was asked last."""
        return [record.member.id for record in self.controls() if isinstance(record, r.Joined)]

    def rosters(self) -> list[set[bytes]]:
        """Who is here, as it was told since it was asked last."""
        controls = [record for record in self.controls() if isinstance(record, r.Roster)]
        return [{member.id for member in record.members} for record in controls]


@pytest.fixture
def broker() -> Broker:
    return Broker([], BOUNDS, 100.0)


@pytest.fixture
def first(broker: Broker) -> Member:
    """One that was told a moment ago that a second has come."""
    first = Member(broker, 1, 100.0)
    broker.flush()
    second = Member(broker, 2, 100.0)
    broker.flush()
    assert first.heard() == [second.id]
    return first


def test_one_who_is_alone_is_told_at_once_and_so_is_the_next(broker: Broker):
    one = Member(broker, 1, 100.0)
    broker.flush()
    assert one.rosters() == [{one.id}]
    two = Member(broker, 2, 100.0001)
    broker.flush()
    assert two.rosters() == [{one.id, two.id}]


def test_the_first_is_told_at_once_and_the_next_together(broker: Broker, first: Member):
    crowd = [Member(broker, number, 100.0001) for number in range(3, 10)]
    broker.flush()
    assert first.heard() == []
    due = broker.deadline
    assert due is not None
    assert 100.0 < due < 100.1
    broker.tick(due)
    broker.flush()
    assert first.heard() == [member.id for member in crowd]
    assert broker.deadline is None


def test_a_newcomer_is_welcome_when_that_was_written_to_the_others(broker: Broker, first: Member):
    """Or nobody would miss it if it were the host, or its host died with it."""
    third = Member(broker, 3, 100.0001)
    broker.flush()
    assert (first.heard(), third.rosters()) == ([], [])
    due = broker.deadline
    assert due is not None
    broker.tick(due)
    written = [seat.member for seat in broker.flush()]
    assert written[-1] == third.id
    assert first.id in written
    assert first.heard() == [third.id]
    assert third.rosters() == [{first.id, third.id, (2).to_bytes(16, "big")}]


def test_few_wait_for_less_time_than_many(broker: Broker, first: Member):
    Member(broker, 3, 100.0001)
    broker.flush()
    few = broker.deadline
    for number in range(4, 300):
        Member(broker, number, 100.0001)
    broker.tick(101.0)
    broker.flush()
    Member(broker, 300, 101.0)
    many = broker.deadline
    assert few is not None
    assert many is not None
    assert few - 100.0 < 0.005
    assert 0.04 < many - 101.0 < 0.06


def test_nobody_hears_of_a_member_before_he_hears_that_it_has_come(broker: Broker, first: Member):
    third = Member(broker, 3, 100.0001)
    broker.flush()
    third.publish(100.0002)
    broker.flush()
    assert first.heard() == [third.id]


def test_one_that_has_left_meanwhile_is_said_to_have_come_and_left(broker: Broker, first: Member):
    third = Member(broker, 3, 100.0001)
    broker.left(third.id, 100.0002)
    broker.flush()
    kinds = [type(r.decode_control(record)) for record in first.outbox.pending]
    assert kinds == [r.Joined, r.Left]


def test_the_next_is_told_at_once_where_nobody_was_woken():
    """Who is expected is told when it comes back."""
    expected = r.MemberInfo((9).to_bytes(16, "big"), 9, {})
    broker = Broker([expected], BOUNDS, 100.0)
    for number in (1, 2):
        member = Member(broker, number, 100.0001)
        broker.flush()
        assert len(member.rosters()) == 1


def test_all_who_are_here_are_told_what_their_roster_is_worth():
    """0 while the file of somebody who was named may be missing."""
    broker = Broker([], BOUNDS, 100.0, lineage=2)
    first = Member(broker, 1, 100.0)
    broker.flush()
    second = Member(broker, 2, 100.0)
    broker.flush()
    for member in (first, second):
        assert lineages(member) == [2]
    missing = r.MemberInfo((9).to_bytes(16, "big"), 9, {})
    third = Member(broker, 3, 100.0001, [missing])
    broker.flush()
    assert [lineages(member) for member in (first, second, third)] == [[0], [0], []]
    broker.left(missing.id, 100.0002)
    broker.flush()
    assert [lineages(member) for member in (first, second, third)] == [[2], [2], []]
    broker.tick(101.0)
    broker.flush()
    assert [lineages(member) for member in (first, second, third)] == [[], [], [2]]


def lineages(member: Member) -> list[int]:
    return [record.lineage for record in member.controls() if isinstance(record, r.Roster)]
