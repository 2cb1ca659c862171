"""Seats: what goes to a member, what waits, what is dropped, and what depends on its receipt."""

from __future__ import annotations

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core import seat as module
from open_channel.bus.core.seat import NOTHING, Entry, Seat, Subscription
from open_channel.bus.core.subjects import MANY
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox
from tests.bus.core.verbs import info, mixed, publication, written

BODY = publication(9, 1)


class Ledger:
    """Which publications have progressed: see ``Completes``."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def progressed(self, entry: Entry) -> None:
        self.seen.append((entry.first, entry.waiting, entry.jobs))


def make(*, feed: int = 100, opened: bool = True) -> Seat:
    seat = Seat(info(1).id, info(1), feed)
    if opened:
        seat.outbox = Outbox(Limits(), lambda: 0)
    return seat


def entry(ledger: Ledger, seat: Seat, seq: int, *, stays: bool = False) -> Entry:
    made = Entry(ledger, seat, seq, seq, stays=stays)
    made.waiting += 1
    return made


def acknowledge(seat: Seat, count: int) -> None:
    assert seat.outbox is not None
    written(seat.outbox)
    seat.outbox.acknowledge(count)
    seat.receipts(100.0)


def names(records: list[bytes]) -> list[str]:
    return [
        type(r.decode_control(one)).__name__ if one[0] == r.CONTROL else "publication"
        for one in records
    ]


def test_one_is_late_for_what_it_was_sent_and_not_for_what_nobody_looked_at():
    seat = make()
    assert not seat.is_late(200.0, 1.0)
    ledger = Ledger()
    for at in (100.0, 103.0):
        seat.send(b"x", at, entry(ledger, seat, 1))
    assert not seat.is_late(101.0, 1.0)
    assert seat.is_late(101.1, 1.0)
    seat.pardon(2.0, 103.5)
    assert not seat.is_late(103.0, 1.0)
    assert [when for _, when, _ in seat.owed] == [102.0, 103.5]  # never in the time to come
    assert seat.is_late(103.1, 1.0)
    seat.released = True
    assert not seat.is_late(200.0, 1.0)
    seat.released, seat.outbox = False, None
    assert not seat.is_late(200.0, 1.0)


def test_an_entry_tells_when_only_jobs_are_left_and_when_nothing_is():
    ledger = Ledger()
    one = Entry(ledger, make(), 1, 1)
    one.waiting, one.jobs = 3, 1
    one.received()
    assert ledger.seen == []
    one.received()
    assert ledger.seen == [(1, 1, 1)]
    one.jobs = 0
    one.received()
    assert ledger.seen[-1] == (1, 0, 0)


def test_a_subscription_begins_with_empty_hands():
    seat = make()
    one = Subscription(seat, r.Subscribe(1, "t"))
    assert (one.seat, one.record.pattern, one.in_hand, one.held) == (seat, "t", 0, {})


def test_a_blocking_one_holds_what_its_consumer_has_not_taken():
    ledger, publisher, other = Ledger(), make(), Seat(info(2).id, info(2), 100)
    blocking = Subscription(make(), r.Subscribe(1, "t", blocks=True))
    entries = [Entry(ledger, publisher, seq, seq) for seq in (1, 2)]
    for one in (*entries, Entry(ledger, other, 1, 1)):
        blocking.hold(one)
        one.received()  # it is routed
    blocking.took(info(3).id, 9)
    assert ledger.seen == []
    blocking.took(info(1).id, 1)
    assert ledger.seen == [(1, 0, 0)]
    blocking.took(info(1).id, 2)
    assert ledger.seen == [(1, 0, 0), (2, 0, 0)]
    assert list(blocking.held) == [other]


def test_records_go_out_at_once_until_there_is_enough_on_the_way():
    seat = make(feed=2 * len(BODY))
    for _ in range(4):
        seat.send(BODY, 100.0, None, "t", 1)
    assert seat.outbox is not None
    assert len(written(seat.outbox)) == seat.written == 2
    assert (len(seat.queue), seat.queued) == (2, 2 * len(BODY))
    seat.outbox.acknowledge(2)
    seat.receipts(100.0)
    assert seat.queued == 0
    assert len(written(seat.outbox)) == 2


def test_what_comes_before_the_session_waits_for_it():
    seat = make(opened=False)
    seat.send(BODY, 100.0)
    seat.control(r.Left(info(2).id), 100.0)
    assert seat.queued == len(BODY) + seat.untold
    assert seat.untold
    seat.pump(100.0)
    assert len(seat.queue) == 2
    seat.outbox = Outbox(Limits(), lambda: 0)
    seat.pump(100.0)
    assert seat.queued == seat.untold == 0


def test_a_receipt_counts_when_the_session_has_acknowledged_that_much():
    ledger, seat = Ledger(), make(feed=1 << 20)
    seat.send(BODY, 100.0, entry(ledger, seat, 1))
    seat.control(r.Left(info(2).id), 100.0)
    seat.send(BODY, 100.0, entry(ledger, seat, 2))
    acknowledge(seat, 2)
    assert [number for number, _, _ in seat.owed] == [3]
    acknowledge(seat, 3)
    assert not seat.owed


def test_a_record_that_a_member_does_not_take_is_noted_and_not_written():
    seat = make(feed=1 << 20)
    assert seat.outbox is not None
    seat.outbox.max_message = 10
    seat.send(BODY, 100.0, NOTHING)
    assert seat.unfit == len(BODY)
    assert written(seat.outbox) == []
    assert len(seat.owed) == 1


def test_the_oldest_publications_are_dropped_and_counted_and_nothing_else():
    seat = make(feed=0)
    seat.send(BODY, 100.0)  # on its way
    for topic in ("a", "a", "b"):
        seat.send(BODY, 100.0, NOTHING, topic, 2)
        seat.control(r.Left(info(2).id), 100.0)
    assert seat.bound(seat.queued) == 0
    kept = seat.untold
    assert seat.bound(kept + len(BODY)) == 4
    assert seat.dropped == {"a": 4}
    assert seat.bound(0) == 2
    assert seat.queued == kept
    assert len(seat.queue) == 3
    acknowledge(seat, 1)
    assert seat.outbox is not None
    records = written(seat.outbox)
    assert names(records) == ["Missed", "Left"]  # and then enough is on its way
    assert r.decode_control(records[0]) == r.Missed({"a": 4, "b": 2})


def test_what_is_dropped_of_a_mixed_publication_is_counted_by_topic():
    seat = make(opened=False)
    seat.send(mixed(9, 1, "a", "b", "a"), 100.0, NOTHING, MANY, 3)
    seat.send(BODY, 100.0, NOTHING, "a", 1)
    assert seat.bound(0) == 4
    assert (seat.dropped, seat.queued) == ({"a": 3, "b": 1}, 0)


def test_a_loss_is_told_where_nothing_is_left_that_it_could_go_before():
    seat = make(feed=0)
    seat.send(BODY, 100.0)  # on its way
    seat.send(BODY, 100.0, NOTHING, "a", 2)
    assert seat.bound(0) == 2
    seat.pump(100.0)
    assert seat.unaware  # for now enough is on its way
    acknowledge(seat, 1)
    assert not seat.unaware
    assert seat.outbox is not None
    assert names(written(seat.outbox)) == ["Missed"]
    assert seat.owed
    acknowledge(seat, 2)
    assert not seat.owed


def test_many_topics_are_told_of_in_several_records(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    seat = make(feed=1 << 20)
    seat.dropped = {"a": 1, "b": 2, "c": 3}
    seat.queue.append((BODY, None, "t", 1))
    seat.queued = len(BODY)
    seat.pump(100.0)
    assert seat.outbox is not None
    assert names(written(seat.outbox)) == ["Missed", "Missed", "publication"]
    assert seat.dropped == {}


def test_too_many_topics_are_not_counted_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_COUNTED", 1)
    seat = make(opened=False)
    for topic in ("a", "b", "c"):
        seat.send(BODY, 100.0, NOTHING, topic, 1)
    assert seat.bound(len(BODY)) == 2
    assert seat.uncounted
    assert seat.dropped == {}
    seat.outbox = Outbox(Limits(), lambda: 0)
    seat.pump(100.0)
    records = written(seat.outbox)
    assert names(records) == ["Gap", "publication"]
    assert r.decode_control(records[0]) == r.Gap(r.NOBODY, 1)


def test_acknowledgements_are_taken_as_ranges():
    seat = make()
    seat.acks = [(4, 5)]
    assert seat.take_acks() == [(4, 5)]
    seat.acks = [(7, 7), (1, 2), (3, 3), (9, 9)]
    assert seat.take_acks() == [(1, 3), (7, 7), (9, 9)]
    assert seat.acks == []


def test_what_a_member_has_not_received_is_known_by_publisher():
    ledger, seat = Ledger(), make(feed=0)
    one, two = make(), make()
    for who, seq in ((one, 3), (two, 8), (one, 5)):
        seat.send(BODY, 100.0, entry(ledger, who, seq), "t", 1)
    seat.send(BODY, 100.0, NOTHING, "t", 1)
    assert seat.owed_from() == {one: 5, two: 8}


def test_who_was_left_out_of_more_is_not_left_out_of_less():
    seat, one, two, three = make(), info(2).id, info(3).id, info(4).id
    seat.leave_out(one, 8)
    assert seat.without_changed
    seat.without_changed = False
    seat.leave_out(one, 7)
    assert not seat.without_changed
    seat.leave_out(two, 3)
    seat.gaps = {one: 9, two: 2, three: 4}
    assert seat.without == {one: 8, two: 3}
    assert seat.left_out() == {one: 9, two: 3, three: 4}


def test_letting_go_keeps_what_stays():
    ledger, seat = Ledger(), make(feed=0)
    seat.send(BODY, 100.0, entry(ledger, seat, 1))
    seat.send(BODY, 100.0, entry(ledger, seat, 2, stays=True))
    seat.send(BODY, 100.0, entry(ledger, seat, 3))
    seat.send(BODY, 100.0)
    NOTHING.received()  # and nothing comes of it
    seat.let_go()
    assert [type(one) for _, _, one in seat.owed] == [type(NOTHING)]
    assert [type(one) for _, one, _, _ in seat.queue] == [Entry, type(NOTHING), type(None)]


def test_nobody_waits_for_the_dead():
    ledger, seat = Ledger(), make(feed=0)
    waits = [entry(ledger, seat, seq) for seq in (1, 2)]
    for one in waits:
        seat.send(BODY, 100.0, one)
    seat.send(BODY, 100.0)
    seat.send(BODY, 100.0, NOTHING)
    seat.forget()
    assert [one.waiting for one in waits] == [1, 1]
    assert not seat.owed
    assert not seat.queue
