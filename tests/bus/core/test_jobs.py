"""Jobs: in whose hands they are, and what becomes of them when members and hosts go."""

from __future__ import annotations

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.jobs import Jobs
from tests.bus.core.verbs import (
    Bench,
    Member,
    answer,
    ask,
    numbers,
    publish,
    responder,
    subscribe,
    worker,
)

TOPIC = b"t"
LAG, GRACE = 1.5, 7.0


def jobs(bench: Bench) -> Jobs:
    return bench.broker.routing.jobs


# --- jobs, and the death of consumers -------------------------------------------------------------


def test_the_work_of_the_dead_goes_to_others(bench: Bench, members: list[Member]):
    one, two, three = members
    worker(bench, two)
    publish(bench, one, b"1")
    other = worker(bench, three)
    bench.dies(two)
    bench.pump()
    assert other.jobs == [(one.id, 1, b"1", True)]


def test_the_work_of_the_last_one_is_dropped(bench: Bench, members: list[Member]):
    one, two, _ = members
    worker(bench, two)
    publish(bench, one, b"1")
    bench.dies(two)
    bench.pump()
    assert one.core.held == 0


def test_unread_work_of_one_who_is_out_of_touch_goes_to_others(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two, prefetch=2)
    publish(bench, one, b"1")
    bench.away.add(two.id)
    publish(bench, one, b"2")
    second = worker(bench, three)
    bench.wait(LAG)
    bench.pump()
    assert numbers(second) == [2]
    bench.away.clear()
    bench.pump()
    assert first.gone == [(one.id, 2)]
    assert first.finish()
    assert not two.core.done(first.interest, one.id, 2)
    assert second.finish()
    bench.pump()
    assert one.core.held == 0


def test_a_rejection_of_another_turn_changes_nothing(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    seat = bench.broker.seats[two.id]
    jobs(bench).reject(seat, (one.id, 1, sub.interest.key), 9)
    jobs(bench).reject(seat, (one.id, 7, sub.interest.key), 1)
    assert len(seat.jobs) == 1


def test_what_is_done_before_it_is_handed_out_is_done(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two)
    publish(bench, one, b"1")
    bench.away.add(two.id)
    bench.wait(LAG)  # nothing is unread: it keeps its job
    second = worker(bench, three)
    assert second.jobs == []
    assert first.finish()
    bench.away.clear()
    bench.pump()
    assert one.core.held == 0


def test_rejected_work_goes_to_another(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two)
    publish(bench, one, b"1", b"2")
    second = worker(bench, three)
    assert numbers(second) == [2]
    assert second.finish()
    bench.pump()
    assert two.core.reject(first.interest, one.id, 1)
    bench.pump()
    assert second.jobs + first.jobs[1:] == [(one.id, 1, b"1", True)]


def test_work_that_is_kept_is_not_handed_to_others(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two, prefetch=2)
    publish(bench, one, b"1", b"2")
    second = worker(bench, three)
    two.core.unsubscribe(first.interest, [(one.id, 1)])
    bench.pump()
    assert numbers(second) == [2]
    assert two.core.done(first.interest, one.id, 1)
    assert second.finish()
    bench.pump()
    assert one.core.held == 0
    assert second.jobs == []


def test_kept_work_is_given_back_when_nobody_is_left(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    two.core.unsubscribe(sub.interest, [(one.id, 1)])
    bench.pump()
    assert one.core.held == 1
    assert two.core.reject(sub.interest, one.id, 1)
    bench.pump()
    assert one.core.held == 0


# --- jobs at another host -------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 1])
def test_work_in_hand_stays_there(bench: Bench, members: list[Member], late: int):
    one, two, three = members
    first = worker(bench, two)
    publish(bench, one, b"1", b"2")
    second = worker(bench, three)
    assert numbers(second) == [2]
    bench = bench.succeeded_by(without=[members[late]])
    bench.open(members[late])
    bench.pump()
    assert (numbers(first), numbers(second)) == ([1], [2])
    assert first.finish()
    assert second.finish()
    bench.pump()
    assert one.core.held == 0
    assert not jobs(bench)._in_hand


@pytest.mark.parametrize("late", [0, 1])
def test_work_whose_news_is_on_its_way_is_not_handed_out(
    bench: Bench, members: list[Member], late: int
):
    one, two, three = members
    first = worker(bench, two)
    publish(bench, one, b"1")
    second = worker(bench, three)
    assert first.finish()
    two.core.flush()  # and the host dies
    bench = bench.succeeded_by(without=[members[late]])
    bench.open(members[late])
    bench.pump()
    assert second.jobs == []
    assert one.core.held == 0
    assert not jobs(bench)._finished


def test_resent_work_waits_until_all_are_back(bench: Bench, members: list[Member]):
    one, two, three = members
    worker(bench, two)
    publish(bench, one, b"1")
    second = worker(bench, three)
    bench = bench.succeeded_by(without=[two])
    assert second.jobs == []
    publish(bench, one, b"2")  # was never sent before
    assert numbers(second) == [2]
    bench.dies(two)
    assert second.finish()
    bench.pump()
    assert second.jobs == [(one.id, 1, b"1", True)]


def test_work_in_hand_that_its_publisher_does_not_know_is_lost(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    one.hear(r.encode_ack([(1, 1)]))  # as another had done it
    bench = bench.succeeded_by(without=[two])
    bench.open(two)
    bench.pump()
    assert sub.gone == [(one.id, 1)]


def test_work_in_hand_is_lost_when_its_publisher_has_told_all(bench: Bench, members: list[Member]):
    one, two, three = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    one.hear(r.encode_ack([(1, 1)]))
    bench = bench.succeeded_by(without=[one])
    assert len(jobs(bench)._in_hand) == 1
    publish(bench, three, b"next")
    assert [publisher for publisher, *_ in sub.jobs] == [one.id]
    bench.open(one)
    bench.pump()
    assert not jobs(bench)._in_hand
    # It was told, so it never has two in hand.
    assert sub.gone == [(one.id, 1)]
    assert [publisher for publisher, *_ in sub.jobs] == [one.id, three.id]


def test_what_is_in_hand_counts(bench: Bench, members: list[Member]):
    one, two, three = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    bench = bench.succeeded_by(without=[one])
    publish(bench, three, b"1")
    assert [publisher for publisher, *_ in sub.jobs] == [one.id]
    assert two.core.reject(sub.interest, one.id, 1)
    bench.pump()
    assert [publisher for publisher, *_ in sub.jobs] == [one.id, three.id]


def test_work_in_hand_of_one_who_leaves_or_dies_is_free(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two)
    publish(bench, one, b"1")
    second = worker(bench, three)
    bench = bench.succeeded_by(without=[one])
    two.core.unsubscribe(first.interest, [])
    bench.pump()
    assert not jobs(bench)._in_hand
    bench.open(one)
    bench.pump()
    assert numbers(second) == [1]
    bench = bench.succeeded_by(without=[one])
    bench.dies(three)
    assert not jobs(bench)._in_hand


def test_what_is_kept_of_what_was_reported_stays_in_hand(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two, prefetch=2)
    publish(bench, one, b"1", b"2")
    second = worker(bench, three, prefetch=2)
    bench = bench.succeeded_by(without=[one])
    two.core.unsubscribe(first.interest, [(one.id, 1)])
    bench.pump()
    bench.open(one)
    bench.pump()
    assert numbers(second) == [2]
    assert two.core.done(first.interest, one.id, 1)
    assert second.finish()
    bench.pump()
    assert one.core.held == 0


def test_several_of_one_publication_in_hand_of_a_group_that_is_gone(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = worker(bench, two, prefetch=2)
    one.core.publish(TOPIC, b"1", 0)
    one.core.publish(TOPIC, b"2", 0)
    bench.pump()
    two.core.unsubscribe(sub.interest, [(one.id, 1), (one.id, 2)])
    bench = bench.succeeded_by(without=[one])
    bench.open(one)
    bench.pump()
    for seq in (1, 2):
        assert two.core.done(sub.interest, one.id, seq)
    bench.pump()
    assert one.core.held == 0


def test_of_two_that_report_the_same_the_second_loses_it(bench: Bench, members: list[Member]):
    one, two, three = members
    first, second = worker(bench, two), worker(bench, three)
    publish(bench, one, b"1")
    key = (one.id, 1, first.interest.key)
    three.core._jobs[key] = second.interest.id, 1
    bench = bench.succeeded_by(without=[one])
    assert second.gone == [(one.id, 1)]
    three.core._jobs[key] = second.interest.id, 1
    bench = bench.succeeded_by(without=[three])
    bench.open(three)  # when it is in the first one's hands already
    bench.pump()
    assert second.gone == [(one.id, 1)] * 2
    assert first.gone == []


def test_a_report_of_the_dead_ones_work_is_of_nothing(bench: Bench, members: list[Member]):
    one, two, _ = members
    worker(bench, two)
    publish(bench, one, b"1")
    bench.members.pop(one.id)
    bench = bench.succeeded_by()
    assert not jobs(bench)._in_hand
    assert not jobs(bench)._open


@pytest.mark.parametrize("done", [False, True])
def test_work_in_hand_of_one_who_has_sent_it_again_and_died_stays_there(
    bench: Bench, members: list[Member], done: bool
):
    one, two, three = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    if done:  # and nobody has heard of it
        assert sub.finish()
    bench = bench.succeeded_by(without=[two, three])
    bench.dies(one)
    bench.open(two)
    bench.say(two)
    job = jobs(bench).find((one.id, 1, sub.interest.key))
    if done:
        assert job is None
    else:
        assert job is not None
        assert job.holder is not None
        assert job.holder.seat.member == two.id
        assert sub.finish()
    bench.open(three)
    bench.pump()
    assert not jobs(bench)._open
    assert not jobs(bench)._in_hand


@pytest.mark.parametrize("late", [1, 2])
def test_what_is_reported_of_the_dead_and_nobody_knows_is_forgotten(
    bench: Bench, members: list[Member], late: int
):
    one, two, _ = members
    worker(bench, two)
    publish(bench, one, b"1")
    bench.members.pop(one.id)
    bench = bench.succeeded_by(without=[members[late]])
    assert not bench.broker.settled
    assert not jobs(bench)._in_hand
    bench.wait(GRACE)
    bench.open(members[late])
    bench.pump()
    assert not jobs(bench)._in_hand


def test_work_reported_after_the_grace_is_lost_or_found(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two)
    publish(bench, one, b"1")
    second = worker(bench, three)
    publish(bench, one, b"2")
    bench = bench.succeeded_by(without=[two])
    bench.wait(GRACE)
    bench.pump()
    assert numbers(second) == [2]  # its hands are full: the other waits
    bench.open(two)
    bench.pump()
    assert first.gone == []
    assert first.finish()
    assert second.finish()
    bench.pump()
    assert one.core.held == 0


@pytest.mark.parametrize("topics", [("t",), ("t", "u")])
def test_what_only_groups_wait_for_goes_to_nobody_else_again(
    bench: Bench, members: list[Member], topics: tuple[str, ...]
):
    """Or who has subscribed since would get it, and not what was published after it."""
    one, two, three = members
    work = worker(bench, two)
    before = subscribe(bench, two, "*", blocks=True)
    for topic in topics:
        one.core.publish(topic.encode(), b"body", 0)
    bench.pump()
    two.core.took(before.interest, one.id, len(topics))
    bench.pump()
    assert r.Taking(1) in one.controls()
    since = [subscribe(bench, three, "*"), subscribe(bench, three, "*", blocks=True)]
    bench = bench.succeeded_by()
    assert [sub.got for sub in since] == [[], []]
    assert before.got == [b"body"] * len(topics)
    assert numbers(work) == [1]
    assert work.finish()
    bench.pump()
    assert one.core.held == 0


def test_work_of_a_publisher_who_is_back_and_dies_is_not_done_twice(
    bench: Bench, members: list[Member]
):
    one, two, three = members
    work = worker(bench, two)
    publish(bench, one, b"1")
    others = worker(bench, three)
    two.core.unsubscribe(work.interest, [(one.id, 1)])
    assert two.core.done(work.interest, one.id, 1)
    bench = bench.succeeded_by(without=[two, three])
    bench.dies(one)
    bench.open(two)  # who tells that it is done, before anybody is known to share it
    bench.pump()
    bench.open(three)
    bench.pump()
    assert others.jobs == []
    assert not jobs(bench)._finished


# --- requests -------------------------------------------------------------------------------------


def test_its_responder_dies(bench: Bench, members: list[Member]):
    one, two, three = members
    responder(bench, two)
    asks = ask(bench, one)
    responder(bench, three)
    bench.dies(two)
    bench.pump()
    assert asks.why is r.End.DIED


def test_a_cancelled_request_waits_for_nobody(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = responder(bench, two)
    for _ in range(2):
        ask(bench, one)
    for seq in (1, 2):
        one.core.cancel(seq)
    bench.pump()
    assert list(jobs(bench)._open) == [(one.id, 1, "")]  # it is worked on
    answer(bench, sub)
    assert sub.jobs == []
    assert one.core.held == 0


def test_the_requests_of_the_dead_are_forgotten_but_for_what_is_in_hand(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = responder(bench, two)
    for _ in range(2):
        ask(bench, one)
    bench.dies(one)
    assert list(jobs(bench)._open) == [(one.id, 1, "")]
    bench.dies(two)
    assert not jobs(bench)._open
    assert len(sub.jobs) == 1


def test_a_request_that_nobody_waits_for_is_answered_for_nothing(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = responder(bench, two)
    ask(bench, one)
    one.core.cancel(1)
    bench = bench.succeeded_by(without=[two])
    bench.open(two)
    bench.pump()
    assert not jobs(bench)._in_hand
    assert sub.gone == []
    answer(bench, sub)
    assert two.core.held == 0


def test_a_request_that_is_reported_before_it_comes_is_in_hand(bench: Bench, members: list[Member]):
    one, two, _ = members
    responder(bench, two)
    ask(bench, one)
    key = (one.id, 1, "")
    bench = bench.succeeded_by(without=[one])
    assert jobs(bench).is_in_hand(key)
    assert jobs(bench).find(key) is None
    bench.open(one)
    bench.pump()
    assert not jobs(bench).is_in_hand(key)
    job = jobs(bench).find(key)
    assert job is not None
    assert job.read


@pytest.mark.parametrize("late", ["requester", "responder"])
def test_whom_the_next_host_would_not_have_chosen_is_free_again(
    bench: Bench, members: list[Member], late: str
):
    one, two, three = members
    busy = responder(bench, three, ">", prefetch=1)
    ask(bench, one)
    responder(bench, two)
    last = one if late == "requester" else three
    bench = bench.succeeded_by(without=[last])
    bench.open(last)
    bench.pump()
    ask(bench, one, topic=b"other")
    answer(bench, busy)
    assert numbers(busy) == [2]
