"""Groups: whose turn it is, who has what in hand, and what goes back."""

from __future__ import annotations

import pytest

from open_channel.bus.core import groups
from open_channel.bus.core import records as r
from open_channel.bus.core.groups import Group, Job
from open_channel.bus.core.seat import Entry, Seat, Subscription
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox
from tests.bus.core.verbs import info, publication, written


class Silent:
    """It does not matter to it what becomes of a publication."""

    def progressed(self, entry: Entry) -> None:
        """See ``Completes``."""


def seat(number: int) -> Seat:
    made = Seat(info(number).id, info(number), 1 << 20)
    made.outbox = Outbox(Limits(), lambda: 0)
    return made


def consumer(group: Group, number: int, prefetch: int = 1) -> Subscription:
    made = Subscription(seat(number), r.Subscribe(number, group.pattern, "g", prefetch=prefetch))
    group.join(made)
    return made


def job(group: Group, seq: int) -> Job:
    who = seat(9)
    entry = Entry(Silent(), who, seq, seq)
    return Job((who.member, seq, group.key), group, entry, publication(9, seq))


def handed(subscription: Subscription) -> list[tuple[int, int, bool, int]]:
    """(subscription, number, redelivered, turn) of the jobs that its member gets."""
    outbox = subscription.seat.outbox
    assert outbox is not None
    jobs = [r.decode_job(record) for record in written(outbox)]
    return [(one.subscription, one.seq, one.redelivered, one.turn) for one in jobs]


@pytest.fixture
def group() -> Group:
    return Group("g t", "t")


def test_jobs_are_shared_in_turn_up_to_what_each_may_have_in_hand(group: Group):
    one, two = consumer(group, 1, 2), consumer(group, 2)
    for seq in range(1, 6):
        group.add(job(group, seq))
    assert group.waiting == 5
    assert group.assign(100.0) == [one.seat, two.seat, one.seat]
    assert group.waiting == 2
    assert handed(one) == [(1, 1, False, 1), (1, 3, False, 1)]
    assert handed(two) == [(2, 2, False, 1)]
    assert group.assign(100.0) == []
    group.free(two)
    group.free(two)  # it is ready already
    assert group.assign(100.0) == [two.seat, two.seat]


def test_one_that_is_out_of_touch_gets_nothing_until_it_is_back(group: Group):
    one = consumer(group, 1)
    one.seat.released = True
    group.add(job(group, 1))
    assert group.assign(100.0) == []
    one.seat.released = False
    group.refresh(one)
    group.refresh(one)
    assert group.assign(100.0) == [one.seat]


def test_a_job_is_read_once_its_holder_has_received_it(group: Group):
    one = consumer(group, 1)
    work = job(group, 1)
    group.add(work)
    group.assign(100.0)
    assert work.holder is one
    assert not work.read
    _, _, receipt = one.seat.owed[0]
    receipt.received()
    assert work.read


def test_what_was_taken_from_its_holder_is_not_read_by_it(group: Group):
    one = consumer(group, 1)
    work = job(group, 1)
    group.add(work)
    group.assign(100.0)
    _, _, receipt = one.seat.owed[0]
    group.put_back([work])
    receipt.received()
    assert not work.read


def test_jobs_that_go_back_are_next_in_their_order_and_marked(group: Group):
    first, second, third = (job(group, seq) for seq in (1, 2, 3))
    group.add(third)
    group.put_back([first, second])
    assert first.redelivered
    one = consumer(group, 1, 8)
    group.assign(100.0)
    assert handed(one) == [(1, 1, True, 1), (1, 2, True, 1), (1, 3, False, 1)]


def test_turns_count_up_to_two_bytes(group: Group, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "_TURNS", 1)
    one = consumer(group, 1, 8)
    work = job(group, 1)
    for _ in range(3):
        group.add(work)
        group.assign(100.0)
    assert [turn for _, _, _, turn in handed(one)] == [1, 0, 1]


def test_a_job_that_waits_can_be_dropped_and_all_can_be_taken(group: Group):
    works = [job(group, seq) for seq in (1, 2, 3)]
    for work in works:
        group.add(work)
    group.drop(works[1])
    group.drop(works[1])
    assert group.take_pending() == [works[0], works[2]]
    assert group.take_pending() == []


def test_who_leaves_gets_nothing_more(group: Group):
    one, two = consumer(group, 1), consumer(group, 2)
    for seq in (1, 2, 3):
        group.add(job(group, seq))
    assert group.assign(100.0) == [one.seat, two.seat]
    group.leave(one)  # it is not ready: its hands are full
    group.free(one)
    group.refresh(one)
    assert group.assign(100.0) == []
    group.free(two)
    group.leave(two)
    assert group.assign(100.0) == []
    assert not group.consumers


def test_a_job_whose_publisher_sends_it_again_is_waited_for_by_that(group: Group):
    work = job(group, 1)
    other = Entry(Silent(), seat(9), 1, 1)
    work.move(other)
    assert work.entry is other
    assert other.waiting == 2
    assert not work.request
