"""Routing: who gets what, and what becomes of requests when members and hosts go."""

from __future__ import annotations

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.records import Flag
from tests.bus.core.verbs import (
    BOUNDS,
    Asks,
    Bench,
    Member,
    Sub,
    answer,
    ask,
    mix,
    numbers,
    publish,
    responder,
    subscribe,
    worker,
)

TOPIC = b"t"
LAG, GRACE = 1.5, 7.0
EVERYONE = int(Flag.EVERYONE)


def routing(bench: Bench):
    return bench.broker.routing


# --- subscriptions --------------------------------------------------------------------------------


def test_a_message_goes_to_all_who_subscribe_and_to_one_of_each_group(
    bench: Bench, members: list[Member]
):
    one, two, three = members
    plain = [subscribe(bench, member, ">") for member in members]
    work = [worker(bench, member) for member in (two, three)]
    other = subscribe(bench, one, group="h")
    publish(bench, one, b"1", b"2", b"3")
    assert all(sub.got == [b"1", b"2", b"3"] for sub in plain)
    assert [numbers(sub) for sub in work] == [[1], [2]]
    assert numbers(other) == [1]
    assert work[0].finish()
    bench.pump()
    assert numbers(work[0]) == [3]


def test_what_a_blocking_subscription_holds_is_free_when_it_ends(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = subscribe(bench, two, blocks=True)
    publish(bench, one, b"1")
    publish(bench, one, b"2")
    two.core.took(sub.interest, one.id, 1)
    bench.pump()
    assert one.core.oldest == 2
    seat = bench.broker.seats[two.id]
    assert list(seat.subscriptions[sub.interest.id].held) == [bench.broker.seats[one.id]]
    two.core.unsubscribe(sub.interest, [])
    bench.pump()
    assert one.core.held == 0


def test_of_a_mixed_publication_each_gets_what_fits(bench: Bench, members: list[Member]):
    one, two, three = members
    every, some = subscribe(bench, two, ">"), subscribe(bench, three, "b.*", blocks=True)
    work = worker(bench, three, "a", prefetch=2)
    mix(bench, one, "a", "b.x", "c", "b.y", "a")
    assert every.got == [b"1", b"2", b"3", b"4", b"5"]
    assert (some.got, some.topics) == ([b"2", b"4"], ["b.x", "b.y"])
    assert numbers(work) == [1, 5]
    three.core.took(some.interest, one.id, 5)
    bench.pump()
    assert one.core.held == 1
    assert r.Taking(1) in one.controls()
    assert work.finish()
    assert work.finish()
    bench.pump()
    assert one.core.held == 0


def test_a_mixed_publication_with_one_route_goes_on_as_it_is(bench: Bench, members: list[Member]):
    one, two, three = members
    subs = [subscribe(bench, two, ">"), subscribe(bench, three, ">", blocks=True)]
    mix(bench, one, "a", "b")
    assert [sub.got for sub in subs] == [[b"1", b"2"]] * 2
    assert one.core.held == 1
    records = [record for record in (*two.seen, *three.seen) if record[0] == r.MIXED]
    assert records[0] is not records[1]
    assert records[0] == records[1]


def test_a_mixed_publication_is_played_to_who_comes_back(bench: Bench, members: list[Member]):
    one, two, three = members
    some, every = subscribe(bench, two, "a"), subscribe(bench, three, ">", blocks=True)
    work = worker(bench, three, "b", prefetch=2)
    next_one = bench.succeeded_by(without=[two, three])
    asked = Sub(three, "c")
    mix(next_one, one, "a", "b", "c", "b")
    for member in (two, three):
        next_one.open(member)
        next_one.pump()
    assert (some.got, some.topics) == ([b"1"], ["a"])
    assert every.got == [b"1", b"2", b"3", b"4"]
    assert asked.got == []  # nobody had confirmed it
    assert numbers(work) == [2, 4]
    assert one.core.held == 1


def test_what_is_left_when_the_last_consumer_leaves_is_dropped(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = worker(bench, two)
    publish(bench, one, b"1", b"2")
    assert [group.key for group in routing(bench).groups] == ["g t"]
    two.core.unsubscribe(sub.interest, [])
    bench.pump()
    assert one.core.held == 0
    assert not routing(bench).groups


# --- work of groups -------------------------------------------------------------------------------


def test_one_who_leaves_a_group_or_dies_leaves_it_to_others(bench: Bench, members: list[Member]):
    one, two, three = members
    first, second = worker(bench, two), worker(bench, two)
    other = worker(bench, three)
    two.core.unsubscribe(first.interest, [])
    bench.pump()
    bench.dies(two)
    publish(bench, one, b"1", b"2")
    assert other.finish()
    bench.pump()
    assert numbers(other) == [2]
    assert first.jobs == second.jobs == []


def test_each_group_gets_a_publication_once_whoever_comes_back(bench: Bench, members: list[Member]):
    one, two, three = members
    first, second = worker(bench, two), worker(bench, three)
    bench = bench.succeeded_by(without=[two, three])
    publish(bench, one, b"1")
    for member in (two, three):
        bench.open(member)
        bench.pump()
    assert len(first.jobs) + len(second.jobs) == 1


def test_work_of_a_group_that_nobody_is_in_any_more(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = worker(bench, two)
    publish(bench, one, b"1")
    two.core.unsubscribe(sub.interest, [(one.id, 1)])
    bench = bench.succeeded_by(without=[one])
    bench.open(one)
    bench.pump()
    assert one.core.held == 1
    assert two.core.done(sub.interest, one.id, 1)
    bench.pump()
    assert one.core.held == 0


def test_work_of_a_publisher_that_begins_a_session_anew_is_not_handed_out_twice(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = worker(bench, two)
    service = responder(bench, two, "u")
    publish(bench, one, b"1")
    asks = ask(bench, one, topic=b"u")
    bench.dies(one)
    bench.open(one)
    bench.pump()
    assert numbers(sub) == [1]
    assert sub.finish()
    answer(bench, service)
    assert asks.replies == [(b"!", False)]
    assert one.core.held == 0


def test_work_that_is_known_to_be_done_is_not_handed_out(bench: Bench, members: list[Member]):
    one, two, three = members
    first = worker(bench, two)
    slow = subscribe(bench, three, group="h")
    publish(bench, one, b"1")
    assert first.finish()
    bench.pump()
    bench = bench.succeeded_by()
    assert first.jobs == []
    assert slow.finish()
    bench.pump()
    assert one.core.held == 0


def test_a_group_that_comes_back_late_gets_what_was_routed_before(
    bench: Bench, members: list[Member]
):
    one, two, three = members
    first = worker(bench, two)
    plain = subscribe(bench, two)
    blocking = subscribe(bench, three, blocks=True)
    bench = bench.succeeded_by(without=[two, three])
    publish(bench, one, b"1", b"2")
    for member in (two, three):
        bench.open(member)
    bench.pump()
    assert numbers(first) == [1]
    assert plain.got == blocking.got == [b"1", b"2"]
    assert first.finish()
    bench.pump()
    assert first.finish()
    bench.pump()
    assert one.core.held == 1
    three.core.took(blocking.interest, one.id, 2)
    bench.pump()
    assert one.core.held == 0


@pytest.mark.parametrize("late", [0, 1])
def test_mixed_work_in_hand_of_a_group_that_is_gone_stays_there(
    bench: Bench, members: list[Member], late: int
):
    one, two, _ = members
    work = worker(bench, two, "a", prefetch=2)
    mix(bench, one, "b", "a", "b", "a")
    two.core.unsubscribe(work.interest, [(one.id, 2), (one.id, 4)])
    bench = bench.succeeded_by(without=[members[late]])
    bench.open(members[late])
    bench.pump()
    assert work.gone == []
    assert one.core.held == 1
    for seq in (2, 4):
        assert two.core.done(work.interest, one.id, seq)
    bench.pump()
    assert one.core.held == 0


# --- requests -------------------------------------------------------------------------------------


def test_a_request_goes_to_one_responder_and_its_reply_ends_it(bench: Bench, members: list[Member]):
    one, two, three = members
    subs = [responder(bench, member) for member in (two, three)]
    asks = [ask(bench, one) for _ in range(2)]
    assert [len(sub.jobs) for sub in subs] == [1, 1]
    for sub in subs:
        answer(bench, sub)
    assert [one.replies for one in asks] == [[(b"!", False)]] * 2
    assert not routing(bench).jobs._open
    assert [member.core.held for member in members] == [0, 0, 0]


def test_nobody_serves_it(bench: Bench, members: list[Member]):
    assert ask(bench, members[0]).why is r.End.NOBODY
    assert ask(bench, members[0], EVERYONE).why is r.End.NOBODY


def test_a_service_ends_while_requests_wait(bench: Bench, members: list[Member]):
    one, two, three = members
    first = responder(bench, two)
    asks = [ask(bench, one) for _ in range(2)]
    other = responder(bench, three, ">")
    two.core.unsubscribe(first.interest, [(one.id, 1)])
    bench.pump()
    assert len(other.jobs) == 1
    third = ask(bench, one)
    answer(bench, first)
    three.core.unsubscribe(other.interest, [(one.id, 2)])
    bench.pump()
    assert third.why is r.End.NOBODY
    answer(bench, other)
    assert [one.replies for one in asks] == [[(b"!", False)]] * 2


def test_a_request_to_all_names_who_will_reply(bench: Bench, members: list[Member]):
    one, two, three = members
    subs = [responder(bench, two), responder(bench, two, ">"), responder(bench, three, ">")]
    asks = ask(bench, one, EVERYONE, wants=9)
    assert set(asks.named) == {two.id, three.id}
    assert [len(sub.jobs) for sub in subs] == [1, 0, 1]
    answer(bench, subs[0])
    answer(bench, subs[2])
    assert asks.replies == [(b"!", False)] * 2


def test_one_that_takes_nothing_is_not_asked(members: list[Member]):
    one, two, _ = members
    bench = Bench(*members, bounds=BOUNDS._replace(queue=0, feed=0))
    responder(bench, two)
    bench.away.add(two.id)
    for _ in range(2):
        one.core.request(TOPIC, two.id, b"?", 0, Asks())
    bench.pump()
    bench.wait(LAG)
    assert ask(bench, one, EVERYONE).why is r.End.NOBODY


# --- requests at another host ---------------------------------------------------------------------


@pytest.mark.parametrize("late", [0, 1])
def test_an_answer_on_its_way_arrives(bench: Bench, members: list[Member], late: int):
    one, two, three = members
    first = responder(bench, two)
    asks = ask(bench, one)
    second = responder(bench, three)
    publisher, seq, _, _ = first.jobs[0]
    two.core.reply(publisher, seq, False, b"!", 0)
    bench = bench.succeeded_by(without=[members[late]])
    bench.open(members[late])
    bench.pump()
    assert asks.replies == [(b"!", False)]
    assert second.jobs == []


def test_a_request_finds_a_home_when_its_responder_is_back(bench: Bench, members: list[Member]):
    one, two, _ = members
    first = responder(bench, two)
    asks = ask(bench, one)
    bench = bench.succeeded_by(without=[two])
    other = Asks()
    one.core.request(TOPIC, r.NOBODY, b"?", 0, other)
    bench.pump()
    assert asks.why is other.why is None
    bench.open(two)
    bench.pump()
    answer(bench, first)
    answer(bench, first)
    assert asks.replies == other.replies == [(b"!", False)]


def test_a_request_in_the_hands_of_one_who_does_not_serve_any_more(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = responder(bench, two)
    asks = ask(bench, one)
    two.core.unsubscribe(sub.interest, [(one.id, 1)])
    for late in (one, two):
        bench = bench.succeeded_by(without=[late])
        bench.open(late)
        bench.pump()
        assert asks.why is None
    answer(bench, sub)
    assert asks.replies == [(b"!", False)]


def test_a_request_that_finds_no_home_ends_when_all_are_back(bench: Bench, members: list[Member]):
    one, _, three = members
    bench = bench.succeeded_by(without=[three])
    asks = [ask(bench, one), ask(bench, one, EVERYONE)]
    cancelled = ask(bench, one)
    one.core.cancel(3)
    bench.pump()
    bench.open(three)
    bench.pump()
    assert [one.why for one in asks] == [r.End.NOBODY] * 2
    assert cancelled.why is None
    assert not routing(bench)._homeless


def test_a_request_of_one_who_dies_meanwhile_asks_nobody(bench: Bench, members: list[Member]):
    one, two, three = members
    sub = responder(bench, two)
    bench = bench.succeeded_by(without=[two, three])
    for flags in (0, EVERYONE):
        ask(bench, one, flags)
    bench.dies(one)
    for member in (two, three):
        bench.open(member)
    bench.pump()
    assert bench.broker.settled
    assert numbers(sub) == [2]  # what was logged is played; who asked needs no answer


def test_a_request_to_all_reaches_those_who_come_back(bench: Bench, members: list[Member]):
    one, two, three = members
    subs = [responder(bench, member) for member in (two, three)]
    bench = bench.succeeded_by(without=[three])
    asks = ask(bench, one, EVERYONE, wants=9)
    assert asks.named == []
    bench.open(three)
    bench.pump()
    assert set(asks.named) == {two.id, three.id}
    assert [len(sub.jobs) for sub in subs] == [1, 1]
