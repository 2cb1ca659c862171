"""A member's core: what it publishes, keeps, resends, drops as known, and has in hand."""

from __future__ import annotations

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply, encode_done, encode_reply
from open_channel.bus.core.interests import UNKNOWN
from open_channel.bus.core.mixed import Mixed
from open_channel.bus.core.records import Flag
from open_channel.errors import MessageTooLarge, RemoteProtocolError
from tests.bus.core.verbs import Asks, Member, Sub, info, mixed, publication

OTHER, THIRD = info(2).id, info(3).id
TOPIC = b"t"


@pytest.fixture
def member() -> Member:
    """One that is connected, to a broker that the tests play."""
    member = Member(1)
    member.core.opened()
    assert [type(one) for one in member.says()] == [r.Snapshot, r.Resent]
    return member


def only(said: list[r.Control | r.Publication | Mixed]) -> r.Publication:
    (one,) = said
    assert isinstance(one, r.Publication)
    return one


def acked(*ranges: tuple[int, int]) -> bytes:
    return r.encode_ack(list(ranges))


def job(number: int, seq: int, *, turn: int = 1, sender: int = 2, again: bool = False) -> bytes:
    return bytes(r.encode_job(number, seq, again, turn, publication(sender, seq)))


def direct(flags: int, first: int, body: bytes, topic: bytes = b"") -> bytes:
    who = info(1).id
    return bytes(r.encode_publication(r.DIRECT, flags, topic, first, OTHER, who, [body]))


def live(member: Member, pattern: str = "t", **options: object) -> Sub:
    sub = Sub(member, pattern, **options)
    member.hear(r.Confirmed(sub.interest.id))
    member.says()
    assert sub.is_live
    return sub


# --- publishing -----------------------------------------------------------------------------------


def test_messages_in_a_row_are_one_publication(member: Member):
    for body in (b"1", b"2"):
        member.core.publish(TOPIC, body, 0)
    assert member.core.pending
    assert member.core.last == 2
    one = only(member.says())
    assert (one.topic, one.first, one.messages()) == ("t", 1, [b"1", b"2"])
    assert not member.core.pending
    for topic, body in ((TOPIC, b"3"), (b"u", b"4"), (TOPIC, b"5")):
        member.core.publish(topic, body, 0)
    assert member.core.last == 5
    (mix,) = member.says()
    assert isinstance(mix, Mixed)
    assert [mix.topics[index] for index in mix.which] == ["t", "u", "t"]
    assert (mix.first, mix.last, mix.messages()) == (3, 5, [b"3", b"4", b"5"])
    assert member.core.held == 2
    member.hear(acked((1, 5)))
    assert member.core.held == 0
    assert member.core.sizes == [0, 0, 0]


def test_a_mixed_publication_is_sent_again_as_it_was(member: Member):
    for topic in (TOPIC, b"u"):
        member.core.publish(topic, b"x", 0)
    assert len(member.says()) == 1
    member.outbox.clear()
    member.core.opened()
    _, mix, _ = member.says()
    assert isinstance(mix, Mixed)
    assert (mix.flags, mix.first, mix.last) == (r.RESENT, 1, 2)


def test_after_many_to_one_topic_another_begins_a_publication_of_its_own(member: Member):
    for topic in (*[TOPIC] * 100, b"u", TOPIC):
        member.core.publish(topic, b"x", 0)
    run, mix = member.says()
    assert isinstance(run, r.Publication)
    assert isinstance(mix, Mixed)
    assert (run.total, mix.total) == (100, 2)


def test_flags_part_publications_too(member: Member):
    member.core.publish(TOPIC, b"1", 0)
    member.core.publish(TOPIC, b"2", int(Flag.ENCODED))
    member.core.publish(b"u", b"3", 0)
    assert [one.flags for one in member.says() if isinstance(one, r.Publication)] == [0, 1, 0]


def test_a_large_message_travels_alone(member: Member):
    large = bytes(70_000)
    for body in (b"1", large, b"2", bytes(40_000), bytes(40_000)):
        member.core.publish(TOPIC, body, 0)
    said = [one for one in member.says() if isinstance(one, r.Publication)]
    assert [one.total for one in said] == [1, 1, 3]


def test_what_the_outbox_refuses_is_not_held(member: Member):
    member.core.publish(TOPIC, b"1", 0)
    member.says()
    member.outbox.agree(1 << 20, 1000)
    with pytest.raises(MessageTooLarge):
        member.core.request(TOPIC, r.NOBODY, bytes(1000), 0, Asks())
    assert (member.core.last, member.core.held) == (1, 1)
    member.hear(acked((1, 1)))
    assert member.core.sizes == [0, 0, 0]


def test_what_is_acknowledged_is_forgotten(member: Member):
    for _ in range(3):
        member.core.publish(TOPIC, b"x", 0)
        member.core.seal()
    member.core.publish(TOPIC, b"last", 0)
    assert member.core.oldest == 1
    assert member.core.held == 3
    assert member.core.backlog > member.core.sizes[0]
    called: list[int] = []
    member.core.when_acknowledged(lambda: called.append(1))
    member.hear(acked((2, 2), (4, 9)))
    assert not called
    assert member.room
    member.hear(acked((1, 3)))  # some of it again
    assert called == [1]
    assert member.core.held == 0
    assert member.core.sizes == [0, 0, 0]
    member.core.when_acknowledged(lambda: called.append(2))
    assert called == [1, 2]
    assert member.core.oldest == 5


def test_one_message_can_be_waited_for_alone(member: Member):
    member.core.publish(TOPIC, b"x", 0)
    member.core.seal()
    told: list[str] = []
    member.core.publish(TOPIC, b"second", 0)
    member.core.when_last_acknowledged(lambda: told.append("second"))
    member.core.publish(TOPIC, b"third", 0)
    member.core.when_last_acknowledged(lambda: told.append("third"))
    member.core.when_acknowledged(lambda: told.append("all"))
    member.hear(acked((3, 3)))
    assert told == ["third"]
    member.hear(acked((2, 2)))
    assert told == ["third", "second"]
    member.hear(acked((1, 1)))
    assert told == ["third", "second", "all"]


def test_what_only_groups_have_counts_as_jobs(member: Member):
    member.core.publish(TOPIC, b"x", 0)
    member.says()
    size = member.core.sizes[0]
    member.hear(r.Taking(1), r.Taking(1), r.Taking(9))
    assert member.core.sizes == [0, size, 0]
    assert member.core.backlog == size
    member.says()
    member.core.opened()
    (resent,) = (one for one in member.says() if isinstance(one, r.Publication))
    assert resent.flags == Flag.RESENT | Flag.TAKING
    member.hear(acked((1, 1)))
    assert member.core.sizes == [0, 0, 0]


# --- another host ---------------------------------------------------------------------------------


def test_a_new_host_gets_a_snapshot_then_all_that_is_unacknowledged(member: Member):
    member.hear(r.Roster([info(1), info(2)], 7), r.Without({OTHER: 4}))
    plain, consumer = live(member), live(member, group="g")
    member.hear(job(consumer.interest.id, 1, turn=3))
    for body in (b"1", b"2"):
        member.core.publish(TOPIC, body, 0)
        member.core.seal()
    member.hear(direct(int(Flag.DONE), 5, encode_done([(1, "g t")])))
    member.says()
    member.hear(acked((1, 1)))
    member.core.publish(TOPIC, b"3", 0)
    member.outbox.clear()
    member.core.opened()
    snapshot, *pubs, resent = member.says()
    assert snapshot == r.Snapshot(
        info(1),
        [plain.interest.record(), consumer.interest.record()],
        [r.Job(OTHER, 1, "g t", consumer.interest.id)],
        [],
        {OTHER: 4},
        [info(1), info(2)],
        7,
    )
    assert all(record.confirmed for record in snapshot.subscriptions)
    found = [(one.first, one.flags) for one in pubs if isinstance(one, r.Publication)]
    assert found == [(2, r.RESENT), (3, 0)]
    assert resent == r.Resent()
    assert member.core.resent == 1
    # What it has in hand has had no turn at this host.
    assert member.core.reject(consumer.interest, OTHER, 1)
    assert member.says() == [r.Reject(OTHER, 1, "g t", 0)]


def test_what_is_known_to_be_done_is_told_until_its_publication_is(member: Member):
    for _ in range(2):
        member.core.publish(TOPIC, b"x", 0)
        member.core.seal()
    member.says()
    member.hear(direct(int(Flag.DONE), 5, encode_done([(1, "g t"), (2, "g t")])))
    member.hear(acked((1, 1)))
    member.core.opened()
    snapshot = member.says()[0]
    assert isinstance(snapshot, r.Snapshot)
    assert snapshot.done == [(2, "g t")]
    member.hear(acked((2, 2)))
    member.hear(direct(int(Flag.DONE), 6, encode_done([(2, "h t")])))  # nothing is held
    member.core.opened()
    snapshot = member.says()[0]
    assert isinstance(snapshot, r.Snapshot)
    assert snapshot.done == []


def test_before_the_first_host_everything_waits():
    member = Member(1)
    sub = Sub(member, "t")
    member.core.publish(TOPIC, b"1", 0)
    assert member.says() == []
    member.core.opened()
    snapshot, one, resent = member.says()
    assert isinstance(snapshot, r.Snapshot)
    assert snapshot.subscriptions == [sub.interest.record()]
    assert isinstance(one, r.Publication)
    assert not one.flags
    assert resent == r.Resent()


# --- messages -------------------------------------------------------------------------------------


def test_messages_reach_the_subscriptions_that_fit_once(member: Member):
    all_of_it, other, asked = live(member, ">"), live(member, "u"), Sub(member, "t")
    member.hear(publication(2, 1, 2), publication(2, 3))
    assert all_of_it.got == [b"1", b"2", b"3"]
    assert other.got == asked.got == []
    assert member.core.eager
    member.hear(publication(2, 1, 2), publication(2, 3))
    assert all_of_it.got == [b"1", b"2", b"3"]
    assert member.core.duplicates == 3
    assert len(member.core.sinks()) == 3
    assert member.core.interest(asked.interest.id) is asked.interest


def test_mixed_messages_reach_those_that_fit_once(member: Member):
    every, some, other = live(member, ">"), live(member, "t"), live(member, "v")
    for _ in range(2):
        member.hear(mixed(2, 1, "t", "u", "t"))
    assert member.core.eager
    assert (every.got, every.topics) == ([b"1", b"2", b"3"], ["t", "u", "t"])
    assert (some.got, some.topics) == ([b"1", b"3"], ["t", "t"])
    assert other.got == []
    assert member.core.duplicates == 3


def test_a_subscription_is_confirmed_once_and_while_it_is_there(member: Member):
    sub = live(member)
    sub.is_live = False
    member.hear(r.Confirmed(sub.interest.id), r.Confirmed(99))
    assert not sub.is_live
    member.core.unsubscribe(sub.interest, [])
    member.core.unsubscribe(sub.interest, [])
    assert member.says() == [r.Unsubscribe(sub.interest.id, [])]
    member.hear(publication(2, 1))
    assert sub.got == []
    asked = Sub(member, "t")
    member.core.unsubscribe(asked.interest, [])  # before it is live


def test_missing_messages_are_told_to_whom_they_concern(member: Member):
    plain, other, consumer = live(member), live(member, "u"), live(member, group="g")
    Sub(member, "t")
    member.hear(r.Missed({"t": 3}))
    member.hear(publication(2, 4))
    member.hear(r.Gap(OTHER, 4))
    assert (plain.missed, other.missed) == ([3], [])
    member.hear(r.Gap(OTHER, 5))
    assert (plain.missed, other.missed, consumer.missed) == ([3, UNKNOWN], [UNKNOWN], [])


def test_a_blocking_subscription_says_what_it_took(member: Member):
    sub = live(member, blocks=True)
    member.hear(publication(2, 1))
    assert member.says() == []
    member.core.took(sub.interest, OTHER, 1)
    assert member.says() == [r.Took(sub.interest.id, OTHER, 1)]
    member.hear(publication(2, 1))  # of another host: it was taken before
    assert member.says() == [r.Took(sub.interest.id, OTHER, 1)]
    member.hear(publication(2, 2), publication(2, 2))  # it waits in the queue
    assert member.says() == []
    late = live(member, ">", blocks=True)
    member.hear(publication(2, 2))  # it was received before this one began
    assert member.says() == [r.Took(late.interest.id, OTHER, 2)]
    member.core.unsubscribe(sub.interest, [])
    member.says()
    member.core.took(sub.interest, OTHER, 2)
    assert member.says() == []


# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_in_hand_until_it_is_done_and_its_publisher_knows(member: Member):
    sub = live(member, group="g")
    number = sub.interest.id
    member.hear(job(number, 1), job(number, 1, turn=2), job(99, 2))
    assert sub.jobs == [(OTHER, 1, b"1", False)]
    assert sub.finish()
    assert member.core.pending
    done = only(member.says())
    assert done.flags == Flag.DONE
    assert done.to == OTHER
    assert decode_done(done.messages()[0]) == [(1, "g t")]
    member.hear(job(number, 1, again=True))  # a host that has not heard of it
    assert sub.jobs == []
    assert not member.core.done(sub.interest, OTHER, 1)
    member.hear(acked((1, 1)))
    member.hear(job(number, 1, again=True))
    assert sub.jobs == [(OTHER, 1, b"1", True)]


def test_a_job_goes_back_with_its_turn(member: Member):
    sub = live(member, group="g")
    member.hear(job(sub.interest.id, 1, turn=7))
    assert member.core.reject(sub.interest, OTHER, 1)
    assert not member.core.reject(sub.interest, OTHER, 1)
    assert member.says() == [r.Reject(OTHER, 1, "g t", 7)]


def test_a_lost_job_is_told_and_cannot_be_finished(member: Member):
    sub = live(member, group="g")
    member.hear(job(sub.interest.id, 1))
    member.hear(r.Lost(OTHER, 1, "g t"), r.Lost(OTHER, 9, "g t"))
    assert sub.gone == [(OTHER, 1)]
    assert not sub.finish()


def test_who_leaves_keeps_what_is_still_worked_on(member: Member):
    sub = live(member, group="g", prefetch=8)
    member.hear(*(job(sub.interest.id, seq, turn=seq) for seq in (1, 2, 3)))
    other = live(member, group="h")
    member.hear(job(other.interest.id, 1))
    member.core.unsubscribe(sub.interest, [(OTHER, 2)])
    assert member.says() == [r.Unsubscribe(sub.interest.id, [(OTHER, 2, 2)])]
    assert member.core.done(sub.interest, OTHER, 2)
    assert not member.core.done(sub.interest, OTHER, 1)
    member.hear(r.Lost(OTHER, 3, "g t"))
    assert other.finish()


# --- requests -------------------------------------------------------------------------------------


def test_a_request_ends_with_its_reply(member: Member):
    asks = Asks()
    seq = member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    assert only(member.says()).flags == Flag.REQUEST
    reply = direct(int(Flag.REPLY), 5, encode_reply(seq, False, b"!"))
    member.hear(reply, reply)
    assert asks.replies == [(b"!", False)]
    assert member.core.owes
    member.core.cancel(seq)
    assert member.says() == []
    member.core.opened()  # it is not sent again
    assert [type(one) for one in member.says()] == [r.Snapshot, r.Resent]


def test_a_cancelled_request_is_not_sent_to_another_host(member: Member):
    seq = member.core.request(TOPIC, r.NOBODY, b"?", 0, Asks())
    member.core.cancel(seq)
    member.says()
    assert member.core.held == 1
    member.core.opened()
    assert [type(one) for one in member.says()] == [r.Snapshot, r.Resent]
    assert member.core.held == 0


def test_an_answered_request_is_kept_no_longer(member: Member):
    waiting: list[str] = []
    asks = Asks()
    seq = member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    member.core.publish(TOPIC, b"behind", 0)
    member.core.seal()
    member.core.when_acknowledged(lambda: waiting.append("done"))
    given_up = member.core.request(TOPIC, r.NOBODY, b"?", 0, Asks())
    member.core.cancel(given_up)
    room = member.room
    member.hear(direct(int(Flag.REPLY), 5, encode_reply(seq, False, b"!")))
    assert member.room == room + 1  # somebody may wait for it
    assert member.core.held == 2
    member.hear(direct(int(Flag.REPLY), 6, encode_reply(given_up, False, b"!")))
    assert member.core.held == 1
    assert waiting == []
    member.hear(acked((seq, given_up)))  # as a host may, that knows of no reply
    assert waiting == ["done"]
    assert member.core.held == 0
    member.hear(acked((given_up + 1, 2**63)))
    assert member.core.held == 0


def test_a_request_to_one_member_is_direct(member: Member):
    member.core.request(TOPIC, OTHER, b"?", 0, Asks())
    asked = only(member.says())
    assert (asked.record[0], asked.to) == (r.DIRECT, OTHER)


def test_a_cancelled_request_is_told_of_once(member: Member):
    asks = Asks()
    seq = member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    member.says()
    member.core.cancel(seq)
    member.core.cancel(seq)
    assert member.says() == [r.Cancel(seq)]
    other = member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    member.says()
    member.hear(acked((seq, other)))
    member.core.cancel(other)
    assert member.says() == []
    member.hear(direct(int(Flag.REPLY), 5, encode_reply(other, False, b"!")))
    member.hear(r.Ended(other, r.End.NOBODY), r.Responders(other, [OTHER]))
    assert asks.replies == []
    assert asks.why is None


def test_a_request_ends_because_nobody_can_reply(member: Member):
    asks = Asks()
    seq = member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    member.hear(r.Ended(seq, r.End.NOBODY))
    assert asks.why is r.End.NOBODY
    member.hear(r.Ended(seq, r.End.DIED))
    assert asks.why is r.End.NOBODY


def test_a_request_that_was_given_up_keeps_nobody_waiting(member: Member):
    told: list[str] = []
    seq = member.core.request(TOPIC, r.NOBODY, b"?", 0, Asks())
    member.core.when_acknowledged(lambda: told.append("before"))
    assert told == []
    assert member.core.cancel(seq)
    assert told == ["before"]
    member.core.when_acknowledged(lambda: told.append("after"))
    assert told == ["before", "after"]
    member.hear(acked((seq, seq)))
    assert told == ["before", "after"]


def test_a_request_to_all_waits_for_those_that_are_named(member: Member):
    asks = Asks(wants=9)
    seq = member.core.request(TOPIC, r.NOBODY, b"?", int(Flag.EVERYONE), asks)
    member.hear(direct(int(Flag.REPLY), 5, encode_reply(seq, False, b"!")))
    member.hear(r.Responders(seq, [OTHER, THIRD]))
    assert seq in member.core._requests
    member.hear(r.Responders(seq, [OTHER]))
    assert seq not in member.core._requests


def test_who_was_left_out_is_waited_for_no_more_at_another_host(member: Member):
    waits, goes = Asks(), Asks()
    goes.goes_by = {OTHER}
    for asks in (waits, goes):
        member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    member.says()
    member.hear(r.Without({OTHER: 9}), acked((1, 1), (2, 2)))
    member.core.opened()
    assert set(member.core._requests) == {1}


def test_a_request_is_in_hand_until_its_reply_is_there(member: Member):
    sub = live(member, serves=True)
    member.hear(job(sub.interest.id, 1))
    member.core.reply(OTHER, 1, False, b"!", 0)
    member.core.reply(OTHER, 9, True, b"error", 0)  # of nothing that is in hand
    said = [one for one in member.says() if isinstance(one, r.Publication)]
    assert [decode_reply(one.messages()[0]) for one in said] == [
        (1, False, b"!"),
        (9, True, b"error"),
    ]
    member.core.opened()
    snapshot = member.says()[0]
    assert isinstance(snapshot, r.Snapshot)
    assert snapshot.jobs == [r.Job(OTHER, 1, "", sub.interest.id)]
    member.hear(acked((1, 2)))
    member.core.opened()
    snapshot = member.says()[0]
    assert isinstance(snapshot, r.Snapshot)
    assert snapshot.jobs == []


def everyone(seq: int) -> bytes:
    flags = int(Flag.REQUEST | Flag.EVERYONE)
    return bytes(r.encode_publication(r.PUBLISH, flags, TOPIC, seq, OTHER, r.NOBODY, [b"?"]))


def test_a_request_to_all_is_answered_or_refused(member: Member):
    member.hear(everyone(1))
    refusal = only(member.says())
    assert decode_reply(refusal.messages()[0]) == (1, True, b"")
    sub = live(member, serves=True)
    member.hear(everyone(2), everyone(2))
    assert sub.jobs == [(OTHER, 2, b"?", False)]
    assert member.says() == []
    member.hear(everyone(1))  # it may not have come here, when it was not served
    assert decode_reply(only(member.says()).messages()[0]) == (1, True, b"")


def test_a_request_to_this_member_is_served_or_refused(member: Member):
    flags = int(Flag.REQUEST)
    member.hear(direct(flags, 1, b"?", TOPIC))
    assert decode_reply(only(member.says()).messages()[0]) == (1, True, b"")
    sub = live(member, serves=True)
    live(member, "u", serves=True)
    member.hear(direct(flags, 2, b"?", TOPIC), direct(flags, 2, b"?", TOPIC))
    assert sub.jobs == [(OTHER, 2, b"?", False)]
    assert member.core.serving("nowhere") is None


# --- who is here ----------------------------------------------------------------------------------


def test_members_come_and_go_once(member: Member):
    member.hear(r.Roster([info(1), info(2)]), r.Joined(info(2)), r.Joined(info(3)))
    assert member.came == [info(1).id, OTHER, THIRD]
    member.hear(r.Left(OTHER), r.Left(OTHER))
    assert member.went == [OTHER]
    member.hear(r.Roster([info(1)]))
    assert member.went == [OTHER, THIRD]


def test_a_new_host_is_told_of_those_that_no_roster_named_yet(member: Member):
    live(member)
    jobs = live(member, "jobs", group="g")
    member.hear(r.Roster([info(1)]), publication(2, 1), job(jobs.interest.id, 1, sender=3))
    for _ in range(2):  # the job is in hand, and then done
        member.core.opened()
        snapshot = member.says()[0]
        assert isinstance(snapshot, r.Snapshot)
        assert snapshot.roster == [info(1), r.MemberInfo(OTHER, 0, {}), r.MemberInfo(THIRD, 0, {})]
        if jobs.jobs:
            jobs.finish()
    named = info(2)
    member.hear(r.Roster([info(1), r.MemberInfo(OTHER, 0, {})]), r.Roster([info(1), named]))
    assert member.core.roster[OTHER] == named
    assert member.came == [info(1).id, OTHER]


def test_of_who_has_left_nothing_is_remembered(member: Member):
    sub = live(member, blocks=True)
    asks = Asks()
    asks.goes_by = {THIRD}
    member.core.request(TOPIC, r.NOBODY, b"?", 0, asks)
    member.hear(publication(2, 1))
    member.core.took(sub.interest, OTHER, 1)
    member.hear(r.Left(OTHER))
    assert asks.left_by == [OTHER]
    assert sub.interest.taken == sub.interest.got == {}
    member.hear(publication(2, 1))  # another with its id, or so it seems
    assert sub.got == [b"1", b"1"]
    member.hear(r.Left(THIRD))
    assert not member.core._requests


# --- what makes no sense --------------------------------------------------------------------------


@pytest.mark.parametrize("record", [b"", b"\x09", r.encode_control(r.Resent())])
def test_what_no_broker_says(member: Member, record: bytes):
    with pytest.raises(RemoteProtocolError):
        member.hear(record)
