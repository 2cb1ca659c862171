"""The broker: sessions, acknowledgements, who is expected, who is left out, who is told what."""

from __future__ import annotations

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.broker import Broker
from open_channel.bus.core.interests import UNKNOWN
from open_channel.errors import RemoteProtocolError
from open_channel.protocol.limits import Limits
from open_channel.protocol.outbox import Outbox
from tests.bus.core.verbs import (
    BOUNDS,
    Asks,
    Bench,
    Member,
    Sub,
    info,
    publication,
    subscribe,
    written,
)

TOPIC = b"t"
LAG, GRACE = 1.5, 7.0


def publish(member: Member, *bodies: bytes, topic: bytes = TOPIC) -> None:
    for body in bodies:
        member.core.publish(topic, body, 0)
    member.core.seal()


def left_out(bench: Bench, publisher: Member, away: Member) -> Bench:
    """Another host, at the end of whose grace somebody is left out of a message."""
    bench = bench.succeeded_by(without=[away])
    publish(publisher, b"1")
    bench.pump()
    bench.wait(GRACE)
    return bench


def lagging(bench: Bench, publisher: Member, away: Member) -> Sub:
    """One who subscribes, is out of touch, and is waited for: a message is on its way there."""
    sub = subscribe(bench, away)
    bench.away.add(away.id)
    publish(publisher, b"1")
    bench.pump()
    return sub


def seat(bench: Bench, member: Member):
    return bench.broker.seats[member.id]


# --- acknowledgements -----------------------------------------------------------------------------


def test_what_nobody_subscribes_to_is_done_at_once(bench: Bench, members: list[Member]):
    publish(members[0], b"1")
    bench.say(members[0])
    bench.hear(members[0])
    assert members[0].core.held == 0
    assert (bench.broker.routed, bench.broker.dropped) == (1, 0)


def held_until_both_have_it(bench: Bench, one: Member, two: Member, three: Member) -> None:
    bench.ack(two)
    bench.hear(one)
    assert one.core.held == 1
    bench.ack(three)
    bench.hear(one)
    assert one.core.held == 0


def test_it_is_done_when_all_have_it(bench: Bench, members: list[Member]):
    one, two, three = members
    subs = [subscribe(bench, member) for member in (two, three)]
    publish(one, b"1", b"2")
    bench.say(one)
    held_until_both_have_it(bench, one, two, three)
    assert [sub.got for sub in subs] == [[b"1", b"2"]] * 2


def test_what_comes_again_in_one_session_is_not_routed_again(bench: Bench, members: list[Member]):
    sub = subscribe(bench, members[1])
    for _ in range(2):
        record = publication(1, 5)
        bench.broker.received(members[0].id, bench.boxes[members[0].id], record, bench.now)
    bench.pump()
    assert sub.got == [b"5"]
    assert bench.broker.routed == 1


def test_one_with_a_blocking_subscription_holds_it_until_it_is_taken(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = subscribe(bench, two, blocks=True)
    publish(one, b"1")
    bench.pump()
    assert one.core.held == 1
    seat(bench, two).subscriptions[sub.interest.id].took(one.id, 0)
    record = r.encode_control(r.Took(99, one.id, 1))  # of one that has ended
    bench.broker.received(two.id, bench.boxes[two.id], record, bench.now)
    bench.pump()
    assert one.core.held == 1
    two.core.took(sub.interest, one.id, 1)
    bench.pump()
    assert one.core.held == 0


def test_a_mixed_publication_is_done_when_all_have_it(bench: Bench, members: list[Member]):
    one, two, three = members
    subs = [subscribe(bench, member, topic) for member, topic in ((two, "a"), (three, "b"))]
    for topic in (b"a", b"b", b"a", b"c"):
        one.core.publish(topic, topic, 0)
    bench.say(one)
    assert bench.broker.routed == 4
    held_until_both_have_it(bench, one, two, three)
    assert [sub.got for sub in subs] == [[b"a", b"a"], [b"b"]]


def test_what_is_dropped_of_mixed_publications_is_told_by_topic(members: list[Member]):
    bench = Bench(*members, bounds=BOUNDS._replace(queue=300, feed=0))
    one, two, _ = members
    every, some = subscribe(bench, two, ">"), subscribe(bench, two, "b")
    bench.away.add(two.id)
    for _ in range(20):
        for topic in (b"a", b"b", b"a"):
            one.core.publish(topic, b"x", 0)
        bench.pump()
    bench.wait(LAG)
    bench.away.clear()
    bench.pump()
    assert bench.broker.dropped
    assert len(every.got) + sum(every.missed) == 60
    assert len(some.got) + sum(some.missed) == 20


def test_a_publisher_is_told_when_only_jobs_are_left(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = subscribe(bench, two, group="g")
    publish(one, b"1")
    bench.pump()
    assert r.Taking(1) in one.controls()
    assert sub.finish()
    bench.pump()
    assert one.core.held == 0


def test_the_publications_of_the_dead_wait_for_nobody(bench: Bench, members: list[Member]):
    one, two, three = members
    subscribe(bench, two)
    bench.away.add(two.id)
    publish(one, b"1")
    bench.say(one)
    bench.dies(one)
    bench.away.clear()
    bench.pump()
    assert one.id in two.went
    assert one.id in three.went
    assert set(bench.broker.seats) == {two.id, three.id}
    bench.broker.left(one.id, bench.now)  # again is harmless
    bench.broker.acknowledged(one.id, bench.now)


# --- who is expected ------------------------------------------------------------------------------


def test_nothing_is_acknowledged_while_somebody_is_expected(bench: Bench, members: list[Member]):
    one, _, three = members
    sub = subscribe(bench, three)
    bench = bench.succeeded_by(without=[three])
    assert not bench.broker.settled
    assert bench.broker.deadline == 106.0
    publish(one, b"1")
    bench.pump()
    assert one.core.held == 1
    bench.open(three)
    bench.pump()
    assert bench.broker.settled
    assert sub.got == [b"1"]
    assert one.core.held == 0


def test_the_death_of_the_last_one_settles_it(bench: Bench, members: list[Member]):
    one, _, three = members
    bench = bench.succeeded_by(without=[three])
    publish(one, b"1")
    bench.pump()
    bench.dies(three)
    bench.pump()
    assert bench.broker.settled
    assert one.core.held == 0


def test_after_the_grace_publishers_are_told_who_was_left_out(bench: Bench, members: list[Member]):
    one, two, three = members
    sub = subscribe(bench, three)
    bench = left_out(bench, one, three)
    bench.pump()
    assert one.core.held == 0
    assert one.core.without == {three.id: 1}
    publish(one, b"2")
    bench.pump()
    assert one.core.without == {three.id: 2}
    asks = Asks()
    two.core.request(TOPIC, three.id, b"?", 0, asks)
    bench.pump()  # it waits
    bench.open(three)
    bench.pump()
    assert sub.got == []
    assert set(sub.missed) == {UNKNOWN}
    assert asks.replies == [(b"", True)]
    assert one.core.without == {}


def test_who_was_left_out_is_named_though_he_is_back_before_all_is_done(
    bench: Bench, members: list[Member]
):
    one, two, three = members
    sub = subscribe(bench, three)
    job = subscribe(bench, two, group="g")
    bench = bench.succeeded_by(without=[three])
    publish(one, b"1")
    named: list[dict[bytes, int]] = []
    one.core.when_last_acknowledged(lambda: named.append(dict(one.core.without)))
    bench.pump()
    bench.wait(GRACE)
    bench.pump()
    bench.open(three)
    bench.pump()
    assert (sub.got, sub.missed, named) == ([], [UNKNOWN], [])
    assert job.finish()
    bench.pump()
    assert named == [{three.id: 1}]
    assert one.core.without == {}


def test_a_reply_may_be_the_last_that_a_gap_was_remembered_for(bench: Bench, members: list[Member]):
    """A request is not acknowledged: its reply tells that it is done."""
    one, two, three = members
    sub = subscribe(bench, two, serves=True)
    subscribe(bench, three)
    bench = left_out(bench, one, three)
    bench.pump()
    asks = Asks()
    one.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    bench.pump()
    bench.open(three)
    bench.pump()
    assert one.core.without == {three.id: 2}  # as long as something is not done
    publisher, seq, _, _ = sub.jobs[0]
    two.core.reply(publisher, seq, False, b"!", 0)
    bench.pump()
    assert asks.replies == [(b"!", False)]
    assert one.core.without == {}


def test_who_was_left_out_and_dies_is_named_no_more(bench: Bench, members: list[Member]):
    one, two, three = members
    subscribe(bench, three)
    subscribe(bench, two, group="g")
    bench = left_out(bench, one, three)
    bench.pump()
    assert one.core.without == {three.id: 1}
    bench.open(three)
    bench.say(three)  # that it was left out is on its way to it
    bench.dies(three)
    bench.pump()
    assert one.core.without == {}
    assert not bench.broker.seats[one.id].gaps


def test_nobody_remembers_a_gap_for_one_who_has_died(bench: Bench, members: list[Member]):
    one, _, three = members
    subscribe(bench, three)
    bench = left_out(bench, one, three)
    bench.open(three)
    bench.say(three)  # the gap is on its way
    gone = bench.broker.seats[one.id]
    bench.dies(one)
    bench.pump()
    assert not gone.gaps
    assert gone not in bench.broker.dirty


def test_a_host_after_that_adopts_the_table(bench: Bench, members: list[Member]):
    one, _, three = members
    sub = subscribe(bench, three)
    bench = left_out(bench, one, three)
    bench.pump()
    bench = bench.succeeded_by(without=[one])
    assert sub.missed == []
    bench.open(one)  # who names a member that is here already
    bench.pump()
    assert sub.missed == [UNKNOWN]
    assert one.core.without == {}


def test_a_gap_is_told_though_older_messages_come_after_it(bench: Bench, members: list[Member]):
    """What an earlier host acknowledged without a member may follow what it did not acknowledge."""
    one, _, three = members
    sub = subscribe(bench, three)
    publish(one, b"1")
    bench.say(one)
    bench.hear(three)  # which nobody will know
    one.core.without = {three.id: 2}
    bench = bench.succeeded_by(without=[three])
    bench.wait(GRACE)
    bench.pump()
    assert one.core.without == {three.id: 2}
    bench.open(three)
    bench.pump()
    assert sub.got == [b"1"]
    assert sub.missed == [UNKNOWN]
    assert one.core.without == {}


def test_a_table_that_names_strangers_is_corrected(bench: Bench, members: list[Member]):
    one, *_ = members
    one.core.without = {info(99).id: 5, one.id: 4}
    bench = bench.succeeded_by()
    assert one.core.without == {}


def test_what_is_addressed_to_one_who_is_expected_reaches_it(bench: Bench, members: list[Member]):
    one, _, three = members
    sub = subscribe(bench, three, serves=True)
    bench = bench.succeeded_by(without=[three])
    asks = Asks()
    one.core.request(TOPIC, three.id, b"?", 0, asks)
    bench.pump()
    bench.open(three)
    bench.pump()
    assert [body for _, _, body, _ in sub.jobs] == [b"?"]
    bench = bench.succeeded_by(without=[three])
    gone = Asks()
    one.core.request(TOPIC, three.id, b"?", 0, gone)
    bench.pump()
    bench.dies(three)
    bench.pump()
    assert gone.why is r.End.GONE


def test_what_is_addressed_to_one_who_is_absent_waits(bench: Bench, members: list[Member]):
    one, _, three = members
    subscribe(bench, three, serves=True)
    bench = bench.succeeded_by(without=[three])
    one.core.request(TOPIC, three.id, b"?", 0, Asks())
    bench.pump()
    bench.wait(GRACE)
    assert len(seat(bench, three).queue) == 1
    bench.open(three)
    bench.pump()
    assert not seat(bench, three).queue


def test_a_newcomer_is_told_who_is_here_after_the_others(bench: Bench, members: list[Member]):
    four, five = Member(4), Member(5)
    for newcomer in (four, five):
        bench.open(newcomer)
        bench.pump()
    assert bench.broker.newcomers
    assert bench.broker.deadline == bench.broker.news_due
    assert [five.id in member.came for member in (*members, five)] == [False] * 4
    bench.wait(0.05)
    bench.pump()
    assert [five.id in member.came for member in (*members, five)] == [True] * 4
    assert not bench.broker.newcomers


def test_rosters_tell_who_lives_where_files_cannot():
    one, two = Member(1), Member(2)
    one.core.roster = {number: info(int.from_bytes(number)) for number in (two.id, info(9).id)}
    bench = Bench()
    one.core.lineage = 1
    bench.broker = Broker([], BOUNDS, bench.now, lineage=2, dead=[info(9).id])
    assert bench.broker.settled
    bench.open(one)
    bench.pump()
    assert {seat.member for seat in bench.broker.expected} == {two.id}
    assert one.core.lineage == 0  # the next host must ask again
    bench.dies(two) if two.id in bench.members else bench.broker.left(two.id, bench.now)
    bench.pump()
    assert bench.broker.settled
    assert one.core.lineage == 2
    three = Member(3)
    three.core.roster = {two.id: two.info}
    bench.open(three)
    bench.pump()
    assert bench.broker.settled  # it is known to be dead
    assert three.core.lineage == 2


def test_who_is_back_from_another_lineage_has_not_told_all_yet():
    """What it has done comes behind what it publishes again."""
    one = Member(1)
    one.core.roster = {one.id: one.info}
    one.core.lineage = 1
    bench = Bench()
    bench.broker = Broker([], BOUNDS, bench.now, lineage=2)
    bench.open(one)
    snapshot, resent = written(one.outbox)
    bench.broker.received(one.id, bench.boxes[one.id], snapshot, bench.now)
    assert not bench.broker.settled
    bench.broker.received(one.id, bench.boxes[one.id], resent, bench.now)
    assert bench.broker.settled


def test_who_is_named_after_the_grace_is_not_waited_for():
    one = Member(1)
    one.core.roster = {info(2).id: info(2)}
    one.core.lineage = 1
    bench = Bench()
    bench.broker = Broker([], BOUNDS, bench.now, lineage=2)
    bench.wait(GRACE)
    bench.broker.left(info(3).id, bench.now)
    bench.open(one)
    bench.pump()
    assert bench.broker.settled
    assert one.went == [info(2).id]


def test_a_roster_of_the_same_lock_file_names_nobody_who_is_not_known():
    one = Member(1)
    one.core.roster = {info(2).id: info(2)}
    one.core.lineage = 2
    bench = Bench()
    bench.broker = Broker([], BOUNDS, bench.now, lineage=2)
    bench.open(one)
    bench.pump()
    assert bench.broker.settled
    assert one.went == [info(2).id]


def test_all_are_told_whom_a_roster_has_named():
    one, two, three = Member(1), Member(2), Member(3)
    bench = Bench()
    bench.broker = Broker([], BOUNDS, bench.now, lineage=2)
    for member in (one, two):
        bench.open(member)
        bench.pump()
    two.core.roster = {info(2).id: two.info, info(9).id: info(9)}
    two.core.lineage = 1
    bench.dies(two)
    bench.open(two)
    bench.open(three)
    bench.pump()
    bench.wait(0.05)
    bench.pump()
    assert one.core.roster.keys() == {member.id for member in (one, two, three)} | {info(9).id}
    assert [member.core.lineage for member in (one, two, three)] == [0, 0, 0]
    bench.broker.left(info(9).id, bench.now)
    bench.broker.flush()
    bench.pump()
    assert [member.core.lineage for member in (one, two, three)] == [2, 2, 2]
    assert info(9).id in one.went


# --- out of touch ---------------------------------------------------------------------------------


def test_one_that_lags_is_left_out_until_it_has_everything(bench: Bench, members: list[Member]):
    one, _, three = members
    sub = lagging(bench, one, three)
    assert bench.broker.deadline == bench.now + BOUNDS.lag
    bench.wait(0.5)
    assert not seat(bench, three).released
    bench.wait(LAG)
    bench.pump()
    assert one.core.held == 0
    assert one.core.without == {three.id: 1}
    assert bench.broker.deadline is None
    publish(one, b"2")
    bench.pump()
    assert one.core.without == {three.id: 2}
    bench.away.clear()
    bench.pump()
    assert sub.got == [b"1", b"2"]
    assert sub.missed == []
    assert one.core.without == {}
    assert not seat(bench, three).released


def test_nobody_is_late_for_what_the_host_itself_stood_still(bench: Bench, members: list[Member]):
    one, _, three = members
    lagging(bench, one, three)
    bench.wait(BOUNDS.lag / 2)
    publish(one, b"2")
    bench.pump()
    bench.now += 10.0
    bench.broker.tick(bench.now, 10.0)
    assert bench.broker.deadline == bench.now + BOUNDS.lag / 2  # half of it was waited before
    bench.wait(BOUNDS.lag * 0.4)
    assert not seat(bench, three).released
    bench.wait(BOUNDS.lag * 0.2)
    assert seat(bench, three).released


def test_nobody_comes_late_while_the_host_itself_stood_still(bench: Bench, members: list[Member]):
    one, _, three = members
    bench = bench.succeeded_by(without=[three])
    publish(one, b"1")
    bench.pump()
    bench.now += 2 * GRACE
    bench.broker.tick(bench.now, 2 * GRACE)
    bench.open(three)
    bench.pump()
    assert bench.broker.settled
    assert (one.core.held, one.core.without) == (0, {})
    bench.now += GRACE
    bench.broker.tick(bench.now, GRACE)  # nobody is expected, and nothing begins again
    assert bench.broker.deadline is None


def test_its_queue_is_bounded_and_it_is_told_how_many_are_missing(members: list[Member]):
    one, _, three = members
    bench = Bench(*members, bounds=BOUNDS._replace(queue=200, feed=0))
    sub = subscribe(bench, three)
    bench.away.add(three.id)
    for number in range(5):
        publish(one, str(number).encode())
    bench.pump()
    bench.wait(LAG)
    for number in range(5, 9):
        publish(one, str(number).encode())
        bench.pump()
    assert bench.broker.dropped > 0
    assert not bench.broker.is_full(seat(bench, one))
    bench.away.clear()
    bench.pump()
    assert sum(sub.missed) == bench.broker.dropped == 9 - len(sub.got)


def test_it_is_told_of_a_loss_that_nothing_follows(members: list[Member]):
    """Its publishers remember the loss until it knows: the host may be dead before more follows."""
    one, _, three = members
    bench = Bench(*members, bounds=BOUNDS._replace(queue=99, feed=0))
    sub = lagging(bench, one, three)
    bench.wait(LAG)
    publish(one, bytes(100))
    bench.pump()
    assert bench.broker.dropped == 1
    assert one.core.without == {three.id: 2}
    bench.away.clear()
    bench.hear(three)
    assert sub.got == [b"1"]
    bench.pump()
    assert sub.missed == [1]
    assert one.core.without == {}


def test_one_that_takes_nothing_gets_no_more_requests(members: list[Member]):
    one, two, three = members
    bench = Bench(*members, bounds=BOUNDS._replace(queue=0, feed=0))
    subscribe(bench, three, serves=True)
    bench.away.add(three.id)
    first, second = Asks(), Asks()
    for _ in range(2):
        one.core.request(TOPIC, three.id, b"?", 0, first)
    bench.pump()
    bench.wait(LAG)
    two.core.request(TOPIC, three.id, b"?", 0, second)
    bench.pump()
    assert first.why is None
    assert second.why is r.End.GONE


def test_replies_and_done_jobs_wait_for_one_that_is_out_of_touch(
    bench: Bench, members: list[Member]
):
    one, two, _ = members
    sub = subscribe(bench, two, serves=True)
    asks = Asks()
    subscribe(bench, one)
    one.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    bench.pump()
    publish(two, b"1")
    bench.away.add(one.id)
    bench.pump()
    bench.wait(LAG)
    assert seat(bench, one).released
    publisher, seq, _, _ = sub.jobs[0]
    two.core.reply(publisher, seq, False, b"!", 0)
    bench.pump()
    assert two.core.held == 1
    bench.away.clear()
    bench.pump()
    assert asks.replies == [(b"!", False)]
    assert two.core.held == 0


def test_a_gap_counts_as_told_only_once_the_member_is_whole(bench: Bench, members: list[Member]):
    one, _, three = members
    subscribe(bench, three)
    bench = left_out(bench, one, three)
    bench.open(three)
    bench.say(three)
    bench.pump()
    assert one.core.without == {}


# --- who is here ----------------------------------------------------------------------------------


def test_who_comes_is_told_to_all_and_has_the_roster(bench: Bench, members: list[Member]):
    fourth = Member(4)
    bench.open(fourth)
    bench.pump()
    assert fourth.id in members[0].came
    assert set(fourth.core.roster) == {member.id for member in (*members, fourth)}


def test_news_wait_a_little_for_more(bench: Bench, members: list[Member]):
    for number in (4, 5, 6):
        bench.open(Member(number))
    bench.pump()
    assert info(6).id not in members[0].core.roster
    assert bench.broker.deadline is not None
    bench.wait(0.1)
    bench.pump()
    assert info(6).id in members[0].core.roster


def test_who_publishes_is_announced_first(bench: Bench, members: list[Member]):
    subscribe(bench, members[0])
    bench.open(Member(4))
    bench.pump()
    fifth = Member(5)
    bench.open(fifth)
    bench.say(fifth)
    publish(fifth, b"1")
    bench.say(fifth)
    bench.hear(members[0])
    assert fifth.id in members[0].core.roster


def test_who_comes_and_goes_at_once_is_announced_too(bench: Bench, members: list[Member]):
    bench.open(Member(4))
    bench.pump()
    fifth = Member(5)
    bench.open(fifth)
    bench.say(fifth)
    bench.dies(fifth)
    bench.pump()
    assert fifth.id in members[0].came
    assert fifth.id in members[0].went


# --- what makes no sense --------------------------------------------------------------------------


def received(bench: Bench, member: Member, record: bytes, box: Outbox | None = None) -> None:
    bench.broker.received(member.id, box or bench.boxes[member.id], record, bench.now)


def snapshot(number: int) -> bytes:
    return r.encode_control(r.Snapshot(info(number), [], [], [], {}, []))


@pytest.mark.parametrize("record", [b"", b"\x01", r.encode_control(r.Resent()), snapshot(2)])
def test_a_session_begins_with_a_snapshot(bench: Bench, members: list[Member], record: bytes):
    box = Outbox(Limits(), lambda: 0)
    with pytest.raises(RemoteProtocolError, match="does not begin with a snapshot"):
        received(bench, members[0], record, box)


def test_a_member_has_one_session(bench: Bench, members: list[Member]):
    with pytest.raises(RemoteProtocolError, match="two sessions"):
        received(bench, members[0], snapshot(1), Outbox(Limits(), lambda: 0))


@pytest.mark.parametrize("record", [b"\x09", b"", r.encode_control(r.Left(bytes(16)))])
def test_what_no_member_says(bench: Bench, members: list[Member], record: bytes):
    with pytest.raises(RemoteProtocolError):
        received(bench, members[0], record)


def test_who_reads_no_answers_is_not_listened_to(members: list[Member]):
    bench = Bench(*members, bounds=BOUNDS._replace(feed=0))
    seat(bench, members[0]).untold = 1 << 40
    with pytest.raises(RemoteProtocolError, match="are not read"):
        received(bench, members[0], publication(1, 1))


def test_an_unsubscription_of_nothing_changes_nothing(bench: Bench, members: list[Member]):
    received(bench, members[0], r.encode_control(r.Unsubscribe(9, [])))
    received(bench, members[0], r.encode_control(r.Cancel(9)))


# --- what members say of their work ---------------------------------------------------------------


def test_subscriptions_and_work_in_hand_come_with_the_snapshot(bench: Bench, members: list[Member]):
    one, two, three = members
    sub = subscribe(bench, two, group="g")
    publish(one, b"1")
    bench.pump()
    other = Sub(three, "t", group="g")  # not confirmed by any host
    bench = bench.succeeded_by(without=[one])
    assert other.is_live
    bench.open(one)
    bench.pump()
    assert other.jobs == []
    assert len(seat(bench, two).jobs) == 1
    assert sub.finish()
    bench.pump()
    assert one.core.held == 0


def test_work_is_given_back_and_subscriptions_end(bench: Bench, members: list[Member]):
    one, two, three = members
    first = subscribe(bench, two, group="g")
    publish(one, b"1")
    bench.pump()
    second = subscribe(bench, three, group="g")
    assert two.core.reject(first.interest, one.id, 1)
    two.core.unsubscribe(first.interest, [])
    bench.pump()
    assert second.jobs == [(one.id, 1, b"1", True)]
    assert seat(bench, two).subscriptions == {}


def test_more_progress_with_jobs_left_is_not_told_again(bench: Bench, members: list[Member]):
    one, two, three = members
    sub = subscribe(bench, two, group="g", prefetch=8)
    subscribe(bench, three, group="h", prefetch=8)
    publish(one, b"1")
    bench.pump()
    assert sub.finish()
    bench.pump()
    assert one.controls().count(r.Taking(1)) == 1
    assert one.core.held == 1


def test_of_the_dead_nothing_is_kept(bench: Bench, members: list[Member]):
    one, _, three = members
    lagging(bench, one, three)
    bench.wait(LAG)
    bench.pump()
    assert one.core.without
    bench.dies(three)
    bench.pump()
    assert one.core.without == {}


def test_what_was_addressed_to_others_is_not_played_to_who_comes_back(
    bench: Bench, members: list[Member]
):
    one, two, three = members
    sub = subscribe(bench, three, serves=True)
    bench = bench.succeeded_by(without=[two, three])
    asks = Asks()
    one.core.request(TOPIC, two.id, b"?", 0, asks)
    bench.pump()
    bench.open(three)
    bench.pump()
    assert sub.jobs == []
    bench.open(two)
    bench.pump()
    assert asks.replies == [(b"", True)]


def test_nobody_is_told_of_a_reply_that_reaches_nobody(bench: Bench, members: list[Member]):
    one, two, _ = members
    sub = subscribe(bench, two, serves=True)
    one.core.request(TOPIC, r.NOBODY, b"?", 0, Asks())
    bench.pump()
    bench.dies(one)
    publisher, seq, _, _ = sub.jobs[0]
    two.core.reply(publisher, seq, False, b"!", 0)
    bench.pump()
    assert two.core.held == 0
    assert not any(isinstance(record, r.Ended) for record in two.controls())


def test_it_answers_for_itself(bench: Bench, members: list[Member]):
    asks = Asks()
    members[0].core.request(b"$broker", r.NOBODY, b"", 0, asks)
    bench.pump()
    assert len(asks.replies) == 1


def test_one_that_is_telling_when_the_grace_is_over_is_not_left_out(
    bench: Bench, members: list[Member]
):
    one, _, three = members
    subscribe(bench, three)
    bench = bench.succeeded_by(without=[three])
    publish(one, b"1")
    bench.pump()
    bench.broker.received(
        three.id,
        bench.boxes.setdefault(three.id, Outbox(Limits(), lambda: 0)),
        snapshot(3),
        bench.now,
    )
    bench.wait(GRACE)
    assert bench.broker.settled
    assert not seat(bench, three).released
    assert not bench.broker.absent
