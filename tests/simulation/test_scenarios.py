"""The schedules that break a broker which lacks one rule or another: one test each.

All members here are the real core over real sessions; see ``world``. Where this broker differs
from the one that a scenario was found in, its test shows what must hold all the same:

    scenario                          how this broker differs
    same_epoch_twice                  sessions resume by the hosting's own number, never by epochs
    unsubscribe_before_the_reply      no snapshot in the hello: it is the session's first record,
                                      written when the welcome is read, with all done before
    left_from_stopped_host            "left" is a record like all others, behind the fence
    done_on_its_way                   "done" is a publication to the publisher, kept in the worker's
                                      outbox until it has arrived
    request_answered_at_takeover      so is a reply; there is no "finished" that could overtake it
    requests_both_ways                replies and "done" count against no limit
    back_after_grace                  what was published while a member was absent is not played to
                                      it any more: it is told that something is missing
    a done group in a resend that     there is no "retire": a consumer forgets what it finished when
    is never retired                  the publisher has received that
"""

from __future__ import annotations

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core.mixed import encode_mixed
from tests.simulation.play import Scene
from tests.simulation.process import Process
from tests.simulation.world import Settings

STOPPED = 3.3  # seconds after which a stopped host is deposed
LAGGING = 1.1
GRACE = 6.5


@pytest.fixture
def scene() -> Scene:
    """Five members, hosted by the first; all are connected."""
    scene = Scene(5)
    scene.hosted_by(0)
    return scene


def depose(scene: Scene, host: int, by: int) -> None:
    """A stopped host is replaced; only ``by`` has noticed."""
    scene.do("time", STOPPED)
    scene.do("watch", by)
    scene.do("advance", by)
    assert scene[by].hosts


# --- who is here ----------------------------------------------------------------------------------


def test_stale_winner_parked(scene: Scene):
    scene.do("cut", 4, 0, 0)
    scene.hold(4)
    scene.do("join")
    scene.run()
    newcomer = scene.subscribe(5)
    scene.run()
    assert newcomer.confirmed
    scene.hold(1, 2, 3, 5)
    scene.die(0)
    scene.let_go([4])
    assert scene[4].hosts  # and has never heard of the newcomer
    scene.publish(4)
    scene.run()
    assert scene[4].unacked == [1]
    scene.rest()
    assert scene.numbers(newcomer, 4) == [1]


def test_stale_winner_slow():
    scene = Scene(5, Settings(room=2))
    scene.hosted_by(0)
    ballast = scene.subscribe(4)
    scene.run()
    scene.do("pause", 4)
    for _ in range(9):
        scene.publish(1)
        scene.run()
    scene.do("join")
    scene.run()
    newcomer = scene.subscribe(5)
    scene.run()
    assert newcomer.confirmed  # nobody waits for the stopped one's socket
    scene.hold(1, 2, 3, 5)
    scene.die(0)
    scene.do("resume", 4)
    scene.run()
    assert scene[4].hosts
    scene.publish(4)
    scene.run()
    assert scene[4].unacked == [1]
    scene.rest()
    assert scene.numbers(newcomer, 4) == [1]
    assert scene.numbers(ballast, 1) == list(range(1, 10))


def test_takeover_in_takeover(scene: Scene):
    scene.hold(4)
    scene.die(0)
    scene.elect(2)
    scene.run()
    scene.do("join")
    scene.run()
    newcomer = scene.subscribe(5)
    scene.run()
    assert newcomer.confirmed
    scene.hold(1, 3, 5)
    scene.die(2)
    scene.let_go([4])
    assert scene[4].hosts
    scene.publish(4)
    scene.run()
    assert scene[4].unacked == [1]
    scene.rest()
    assert scene.numbers(newcomer, 4) == [1]


def test_subscribe_then_crash(scene: Scene):
    sub = scene.subscribe(3)
    scene.run()
    scene.hold(3)
    scene.die(0)
    scene.publish(1)
    scene.run()
    assert scene[1].unacked == [1]
    scene.rest()
    assert scene.numbers(sub, 1) == [1]


@pytest.mark.parametrize("first", [0, 1], ids=["the host", "the other"])
def test_one_that_was_here_for_a_moment_is_seen_to_leave(first: int):
    """The host is killed as soon as it is a member, whoever of the two was the first."""
    scene = Scene(2)
    for index in (0, 1):
        scene[index].listed = False  # the channel is new: nobody has been here before
    scene.do("advance", 0)
    assert scene[0].hosts
    scene.hold(1 - first)
    scene.run()
    scene.hold(1)
    scene.held.discard(0)
    for step in (("advance", 0), ("hear", 0, 0, 100), ("read", 0, 100), ("hear", 0, 0, 100)):
        scene.world.take(step)
    while not scene[0].core.roster:
        scene.do("read", 0, 100)
    if first == 0:
        scene.let_go([1])
    assert scene[1].core.roster
    seen: list[bytes] = []
    left = scene.world.checks.left

    def note(process: Process, member: bytes) -> None:
        seen.append(member)
        left(process, member)

    scene.world.checks.left = note  # type: ignore[method-assign]
    scene.die(0)
    scene.let_go()
    scene.rest()
    assert seen == [scene[0].id]


# --- the fence ------------------------------------------------------------------------------------


def test_stopped_host_wakes(scene: Scene):
    scene.do("pause", 0)
    depose(scene, 0, by=2)
    scene.hold(1)
    sub = scene.subscribe(4)
    scene.run()
    assert sub.confirmed
    scene.publish(1)
    scene.do("flush", 1)
    scene.do("resume", 0)
    scene.do("hear", 1, 0, 100)  # the old host finds no subscriber, and must not say so
    assert not scene[0].hosts
    assert scene[1].unacked == [1]
    scene.rest()
    assert scene.numbers(sub, 1) == [1]


def test_stale_host_confirms_a_newcomer(scene: Scene):
    scene.hold(4)
    scene.do("pause", 0)
    depose(scene, 0, by=2)
    scene.do("join")
    newcomer = scene.subscribe(5)
    scene.held.add(5)
    # It reached the old host while the path still named that one's lock.
    new, scene.world.holder = scene.world.holder, scene[0].hosting
    scene.do("advance", 5)
    scene.world.holder = new
    scene.do("resume", 0)
    scene.do("hear", 5, 0, 100)
    assert not newcomer.confirmed
    assert not scene[0].hosts
    scene.rest()
    assert newcomer.confirmed


def test_left_from_stopped_host(scene: Scene):
    sub = scene.subscribe(4)
    scene.run()
    scene.publish(1)
    scene.hold(3)
    scene[0].world.do_flush(1)
    scene.do("hear", 1, 0, 100)
    scene.do("read", 4, 100)
    assert scene.numbers(sub, 1) == [1]
    scene.hold(4)
    scene.do("pause", 0)
    depose(scene, 0, by=2)
    scene.do("watch", 1)
    scene.do("advance", 1)
    scene.do("hear", 1, 0, 100)
    scene.do("read", 1, 100)  # welcomed by the new host, and all sent again
    scene.do("crash", 1)
    scene.do("free", 1)
    scene.do("resume", 0)
    scene.let_go([4])
    scene.rest()
    assert scene.numbers(sub, 1) == [1]


def test_a_host_that_has_stepped_down_writes_nothing_more(scene: Scene):
    scene.subscribe(4)
    scene.run()
    scene.do("pause", 0)
    depose(scene, 0, by=2)
    old = scene[0].hosting
    assert old is not None
    scene.do("resume", 0)
    scene.do("beat", 0)
    pipes = [connection.down for connection in scene.world.connections_to(old)]
    before = [list(pipe.kernel) for pipe in pipes]
    old.tick()
    old.flush()
    assert before == [list(pipe.kernel) for pipe in pipes]
    scene.rest()


def test_a_host_that_steps_down_discards_what_it_had_queued():
    """What had found no room in the kernel follows nobody."""
    scene = Scene(4, Settings(room=2))
    scene.hosted_by(0)
    sub = scene.subscribe(3)
    scene.run()
    scene.hold(3)
    for _ in range(9):
        scene.publish(1)
        scene.run()
    pipe = scene[3].connection.down
    assert pipe.buffer
    scene.do("pause", 0)
    depose(scene, 0, by=2)
    scene.do("resume", 0)
    scene.do("beat", 0)
    assert not pipe.buffer
    assert pipe.closed
    scene.rest()
    assert scene.numbers(sub, 1) == list(range(1, 10))


# --- sessions -------------------------------------------------------------------------------------


def test_same_epoch_twice(scene: Scene):
    sub = scene.subscribe(4)
    scene.run()
    scene.hold(4)
    scene.die(0)
    scene.world.epoch = 0  # the lock file is gone, and epochs begin anew
    scene.elect(2)
    assert scene.world.epoch == 1
    scene.run()
    scene.publish(2)
    scene.do("read", 4, 100)
    scene.do("advance", 4)
    scene.do("hear", 4, 0, 1)
    scene.do("cut", 4, 0, 0)  # between hello and welcome
    scene.rest()
    assert scene.numbers(sub, 2) == [1]
    assert scene[4].alive


def test_a_welcome_is_lost(scene: Scene):
    """A living member is never told to be gone because its welcome was lost."""
    scene.do("join")
    sub = scene.subscribe(5)
    scene.do("advance", 5)
    scene.do("hear", 5, 0, 1)
    scene.do("cut", 5, 0, 0)
    scene.rest()
    assert sub.confirmed


def test_old_hello_read_late(scene: Scene):
    scene.hold(0)
    scene.do("join")
    scene.do("advance", 5)  # a hello without anything
    scene.do("cut", 5, 1, 0)
    scene.do("read", 5, 100)
    sub = scene.subscribe(5)
    scene.do("advance", 5)
    for step in (("hear", 5, 0, 1), ("read", 5, 100), ("hear", 5, 0, 100), ("read", 5, 100)):
        scene.do(*step)
    assert sub.confirmed
    scene.do("hear", 5, 1, 1)  # the old hello, read late
    scene.publish(1)
    scene.rest()
    assert scene.numbers(sub, 1) == [1]


def test_commands_on_a_cut_connection(scene: Scene):
    worker = scene.subscribe(3, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.finish(worker)
    sub = scene.subscribe(3)
    scene.do("flush", 3)
    scene.do("cut", 3, 0, 0)  # nothing of that has arrived
    scene.rest()
    assert sub.confirmed


def test_unsubscribe_before_the_reply(scene: Scene):
    one = scene.subscribe(3, kind=2)
    scene.run()
    waiting = scene.request(1)
    scene.run()
    scene.die(0)
    scene.hold(3)
    scene.run()
    scene.do("read", 3, 100)
    scene.do("advance", 3)
    scene.finish(one)
    scene.do("unsubscribe", 3, 0)
    other = scene.subscribe(4, kind=2)
    scene.run()
    scene.let_go()
    scene.rest()
    assert waiting.over == "replied"
    assert not other.hands


# --- subscriptions and jobs -----------------------------------------------------------------------


def test_confirm_of_another(scene: Scene):
    scene.hold(3)
    scene.subscribe(3)
    scene.do("flush", 3)
    scene.do("unsubscribe", 3, 0)
    again = scene.subscribe(3)
    scene.do("hear", 3, 0, 100)
    scene.do("read", 3, 100)  # the first one's confirmation
    assert not again.confirmed
    scene.let_go()
    assert again.confirmed
    scene.publish(1)
    scene.rest()
    assert scene.numbers(again, 1) == [1]


def test_job_to_closed_subscription(scene: Scene):
    first = scene.subscribe(3, kind=3)
    scene.run()
    scene.hold(3)
    scene.publish(1)
    scene.run()  # the job is on its way
    scene.do("unsubscribe", 3, 0)
    second = scene.subscribe(3, kind=3)
    other = scene.subscribe(4, kind=3)
    scene.run()
    scene.let_go()
    scene.rest()
    assert not first.hands
    assert not second.hands
    assert not other.hands


def test_job_under_the_mark(scene: Scene):
    """A job that comes again has a lower number than what was seen as a plain subscriber."""
    one = scene.subscribe(3, kind=3)
    other = scene.subscribe(4, kind=3, prefetch=1)
    sub = scene.subscribe(4)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.publish(1, "a.y", 1)
    scene.publish(1, "a.x", 5)
    scene.run()
    assert (scene[1].id, 1) in one.hands
    assert scene.numbers(sub, 1)[-1] == 7
    scene.die(3)
    scene.run(works=True)
    assert (scene[1].id, 1) in other.begun
    scene.rest()


@pytest.mark.parametrize("publisher_first", [True, False])
def test_job_in_hand_at_takeover(scene: Scene, publisher_first: bool):
    worker = scene.subscribe(3, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    other = scene.subscribe(4, kind=3)
    scene.run()
    assert worker.hands
    late = 3 if publisher_first else 1
    scene.hold(late)
    scene.die(0)
    scene.run()
    scene.let_go()
    assert worker.hands
    assert not other.hands
    scene.finish(worker)
    scene.rest()


@pytest.mark.parametrize("late", [1, 3])
def test_job_finished_at_takeover(scene: Scene, late: int):
    worker = scene.subscribe(3, kind=3)
    scene.subscribe(4, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.finish(worker)
    scene.do("flush", 3)
    scene.hold(late)
    scene.die(0)
    scene.run()
    scene.rest()  # done once: the invariants look at it


def test_job_known_done_by_a_publisher_that_is_back_first(scene: Scene):
    """Its publisher knows that it is done, its consumer has forgotten; another group has not."""
    worker = scene.subscribe(3, kind=3)
    other = scene.subscribe(4, "a.*", kind=4)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.finish(worker)
    scene.run()
    scene.do("time", 0.03)  # receipts of "done" take their time
    scene.run()
    assert not scene[3].core._finished
    scene.hold(3)
    scene.die(0)
    scene.run()
    scene.let_go()
    scene.finish(other)
    scene.rest()


def test_job_back_after_grace(scene: Scene):
    one = scene.subscribe(3, kind=3)
    scene.run()
    scene.hold(3)
    scene.do("cut", 3, 0, 0)
    scene.publish(1)
    scene.run()  # unread, in a parked session's queue
    other = scene.subscribe(4, kind=3)
    scene.run()
    scene.do("time", LAGGING)
    scene.run()
    assert other.hands
    scene.finish(other)
    scene.let_go()
    assert not one.hands
    scene.rest()


def test_job_of_a_publisher_that_is_back_after_grace(scene: Scene):
    """An earlier host may have handed it out: it is marked, whoever gets it first now."""
    worker = scene.subscribe(3, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    assert worker.hands
    scene.subscribe(4, kind=3)
    scene.hold(1, 3)
    scene.die(0)
    scene.run()
    scene.die(3)
    scene.do("time", GRACE)
    scene.run()
    scene.let_go()
    (other,) = scene[4].subs
    assert other.hands == {(scene[1].id, 1): True}
    scene.rest()


@pytest.mark.parametrize("late", [1, 3])
def test_job_finished_by_one_who_has_unsubscribed(scene: Scene, late: int):
    """Nobody in the group is known, until an absent member's subscription brings it back."""
    worker = scene.subscribe(3, kind=3)
    scene.run()
    other = scene.subscribe(4, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    assert worker.hands
    scene.finish(worker)
    scene.do("unsubscribe", 3, 0)
    scene.hold(late, 4)
    scene.die(0)  # before it has heard of that
    scene.run()
    scene.let_go([late])
    scene.let_go()
    assert not other.hands
    scene.rest()


def test_a_done_group_in_a_resend_is_forgotten(scene: Scene):
    """The publisher knows that it is done; its consumer does not know that, and tells it again."""
    worker = scene.subscribe(3, kind=3)
    other = scene.subscribe(4, "a.*", kind=4)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.finish(worker)
    scene.run()
    assert scene[1].core._known_done
    assert scene[3].core._finished  # the receipt of that takes its time
    scene.die(0)
    scene.run()
    scene.do("time", 0.03)
    scene.run()
    assert not scene[3].core._finished
    assert other.hands
    scene.rest()
    assert not scene[1].core._known_done


def test_done_on_its_way(scene: Scene):
    """The publisher dies; its consumer is told, is cut off, and comes back with a "done"."""
    worker = scene.subscribe(3, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.subscribe(4, kind=3)
    scene.run()
    scene.finish(worker)
    scene.hold(3)
    scene.die(1)
    scene.run()
    scene.do("read", 3, 100)
    scene.do("flush", 3)
    scene.do("cut", 3, 0, 0)
    scene.rest()


@pytest.mark.parametrize("late", [1, 3, 4])
def test_two_have_a_job_in_hand_at_a_takeover(scene: Scene, late: int):
    """The first was out of touch, and the host died before it could say that it lost the job."""
    one = scene.subscribe(3, kind=3)
    scene.run()
    scene.hold(3)
    scene.publish(1)
    scene.run()
    scene.do("read", 3, 100)
    scene.do("cut", 3, 0, 0)
    other = scene.subscribe(4, kind=3)
    scene.run()
    scene.do("time", LAGGING)
    scene.run()
    assert one.hands
    assert other.hands
    scene.hold(3, 4, late)
    scene.die(0)
    scene.run()
    scene.let_go({3, 4, 1} - {late})
    scene.let_go()
    assert len(one.hands) + len(other.hands) == 1
    scene.rest()


def test_what_is_in_hand_at_a_takeover_counts(scene: Scene):
    """Who has its hands full gets nothing, though the publisher of that is not back yet."""
    worker = scene.subscribe(3, kind=3, prefetch=1)
    scene.run()
    scene.publish(1)
    scene.run()
    assert worker.hands
    scene.hold(1)
    scene.die(0)
    scene.run()
    scene.publish(2)  # never sent before, so it is handed out at once, where it can be
    scene.run()
    assert list(worker.hands) == [(scene[1].id, 1)]
    scene.let_go()
    assert list(worker.hands) == [(scene[1].id, 1)]
    scene.finish(worker)
    scene.run()
    assert list(worker.hands) == [(scene[2].id, 1)]
    scene.rest()


def test_reject_before_its_publisher_is_back(scene: Scene):
    worker = scene.subscribe(3, kind=3)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.hold(1)
    scene.die(0)
    scene.run()
    scene.finish(worker, done=False)
    scene.run()
    scene.rest()


def test_the_last_known_consumer_leaves_while_another_is_absent(scene: Scene):
    scene.subscribe(3, kind=3)
    absent = scene.subscribe(4, kind=3)
    scene.run()
    scene.hold(4)
    scene.die(0)
    scene.run()
    scene.publish(1)
    scene.run()
    scene.do("unsubscribe", 3, 0)
    scene.run()
    scene.let_go()
    assert absent.hands
    scene.rest()


def test_one_long_job(scene: Scene):
    worker = scene.subscribe(3, kind=3)
    sub = scene.subscribe(4)
    scene.run()
    for _ in range(100):
        scene.publish(1)
        scene.run()
        while len(worker.hands) > 1:
            scene.do("finish", 3, 0, 1, 1)
            scene.run()
    assert scene.numbers(sub, 1) == list(range(1, 101))
    assert scene[1].unacked == [1]  # not all behind the long one
    scene.rest()


def test_job_of_a_stopped_only_consumer(scene: Scene):
    scene.subscribe(3, kind=3)
    scene.run()
    scene.do("pause", 3)
    scene.publish(1, count=3)
    scene.run()
    scene.do("time", LAGGING)
    scene.run()
    messages, jobs, _ = scene[1].core.sizes
    assert messages == 0  # plain messages have their own share of the outbox
    assert jobs > 0
    scene.rest()


def test_a_lost_job_comes_again_to_another_subscription_of_the_same_member(scene: Scene):
    """Who works on it still, for the one that has ended, can neither finish nor reject it."""
    first = scene.subscribe(3, kind=3)
    scene.run()
    scene.hold(3)
    scene.publish(1)
    scene.run()
    scene.do("read", 3, 100)
    second = scene.subscribe(3, kind=3)
    scene.do("unsubscribe", 3, 0, 1)  # and keeps what it has in hand
    scene.do("time", LAGGING)
    scene.run()
    scene.let_go()
    assert list(first.hands) == list(second.hands) == [(scene[1].id, 1)]
    core = scene[3].core
    assert not core.reject(first.interest, scene[1].id, 1)
    assert not core.done(first.interest, scene[1].id, 1)
    scene.finish(second)
    scene.rest()


def test_a_rejection_crosses_the_news_that_its_job_was_lost(scene: Scene):
    """It is of the job that was taken back, not of the same one handed out again."""
    worker = scene.subscribe(3, kind=3, prefetch=1)
    scene.run()
    scene.hold(3)
    scene.publish(1, count=2)
    scene.run()
    scene.do("read", 3, 100)
    scene.finish(worker, done=False)
    scene.do("flush", 3)  # it lies in the socket, behind the receipt of the job
    scene.do("time", LAGGING)
    scene.run()
    scene.do("read", 3, 100)
    scene.let_go()
    assert list(worker.hands) == [(scene[1].id, 1)]  # once again, and no other beside it
    scene.rest()


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [1, 3])
def test_request_answered_at_takeover(scene: Scene, late: int):
    one = scene.subscribe(3, kind=2)
    other = scene.subscribe(4, kind=2)
    scene.run()
    waiting = scene.request(1)
    scene.run()
    responder = one if one.hands else other
    scene.finish(responder)
    scene.do("flush", responder.process.index)
    scene.hold(late)
    scene.die(0)
    scene.run()
    scene.rest()
    assert waiting.over == "replied"


def test_requests_both_ways():
    scene = Scene(3, Settings(window=1024, room=2))
    scene.hosted_by(0)
    for index in (1, 2):
        scene.subscribe(index, kind=2)
    scene.run()
    waiting = [scene.request(index, to=3 - index) for _ in range(40) for index in (1, 2)]
    scene.rest()
    assert {one.over for one in waiting} == {"replied"}
    assert scene[1].core.backlog == 0


def test_a_request_to_all_is_in_several_hands_at_a_takeover(scene: Scene):
    """... and each of them replies once."""
    for index in (3, 4):
        scene.subscribe(index, kind=2)
    scene.run()
    scene.do("request", 1, 0, -1, 1)
    scene.run()
    scene.hold(1)
    scene.die(0)
    scene.run()
    scene.let_go()
    scene.rest()
    (waiting,) = scene[1].requests
    assert waiting.over == "replied"
    assert waiting.replies == {scene[3].id, scene[4].id}


def test_a_request_goes_to_another_service_when_the_first_one_ends(scene: Scene):
    scene.subscribe(3, "a.x", kind=2)
    scene.subscribe(4, "a.*", kind=2)
    scene.run()
    scene.hold(3)
    waiting = scene.request(1)
    scene.run()
    scene.do("unsubscribe", 3, 0)
    scene.rest()
    assert waiting.over == "replied"


# --- out of touch ---------------------------------------------------------------------------------


def test_slow_one_and_host_death(scene: Scene):
    sub = scene.subscribe(3)
    scene.run()
    scene.do("pause", 3)
    scene.publish(1, count=3)
    scene.run()
    scene.do("time", LAGGING)
    scene.run()
    assert not scene[1].unacked
    assert scene[1].core.without[scene[3].id] == 3
    for pipe in [scene[3].connection.down]:
        pipe.kernel.clear()  # the host alone had kept it
    scene.die(0)
    scene.rest()
    assert scene.numbers(sub, 1) == []
    assert sub.knows(scene[1].id, 3, 0)
    assert not scene[1].core.without


def test_back_after_grace(scene: Scene):
    sub = scene.subscribe(3)
    scene.run()
    scene.hold(3)
    scene.die(0)
    scene.run()
    scene.publish(1)
    scene.run()
    assert scene[1].unacked
    scene.do("time", GRACE)
    scene.run()
    assert not scene[1].unacked
    assert scene[1].core.without[scene[3].id] == 1
    assert scene[3].id in scene[1].core.roster  # it lives: nobody is told that it left
    scene.rest()
    assert sub.knows(scene[1].id, 1, 0)


def test_publisher_back_after_grace(scene: Scene):
    sub = scene.subscribe(3)
    slow = scene.subscribe(4)
    scene.run()
    scene.hold(4)
    scene.publish(1)
    scene.run()
    assert scene.numbers(sub, 1) == [1]
    scene.hold(1)
    scene.die(0)
    scene.run()
    scene.do("time", GRACE)
    scene.run()
    scene.rest()  # and sends it again: nobody gets it twice
    assert scene.numbers(sub, 1) == scene.numbers(slow, 1) == [1]


def test_published_between_hello_and_welcome(scene: Scene):
    """What was published before the welcome goes behind what is sent again."""
    sub = scene.subscribe(4)
    scene.run()
    scene.hold(4, 1)
    scene.publish(1)
    scene.do("flush", 1)
    scene.die(0)
    scene.run()
    scene.do("read", 1, 100)
    scene.do("advance", 1)
    scene.publish(1)
    scene.rest()
    assert scene.numbers(sub, 1) == [1, 2]


def test_a_stale_table_in_a_publishers_snapshot_is_corrected(scene: Scene):
    scene.run()
    scene[1].core.without = {scene[3].id: 7, bytes(15) + b"\x99": 5}
    scene.die(0)
    scene.rest()
    assert scene[1].core.without == {}


@pytest.mark.parametrize("member_lives", [True, False])
def test_a_zero_in_a_publishers_table_goes_too(scene: Scene, member_lives: bool):
    """What is looked up and found to be 0 was there all the same."""
    scene.run()
    scene[1].core.without = {scene[3].id: 0}
    scene.hold(3)
    scene.die(0)
    scene.run()
    if not member_lives:
        scene.die(3)
    scene.rest()
    assert scene[1].core.without == {}


def test_a_released_subscriber_is_whole_only_when_it_has_read_everything():
    """What waits in the broker's own queue counts too."""
    scene = Scene(4, Settings(feed=100, patience=0))
    scene.hosted_by(0)
    sub = scene.subscribe(3)
    scene.run()
    scene.do("pause", 3)
    for _ in range(5):
        scene.publish(1, "a.x", 3)
        scene.run()
    scene.do("time", LAGGING)
    scene.run()
    seat = scene.world.holder.broker.seats[scene[3].id]
    assert seat.released
    scene.do("resume", 3)
    scene.do("read", 3, 100)
    scene.do("hear", 3, 0, 100)
    assert seat.released
    assert scene[1].core.without
    scene.rest()
    assert scene.numbers(sub, 1) == list(range(1, 16))


def test_a_blocking_subscription_holds_its_publisher_back(scene: Scene):
    sub = scene.subscribe(3, kind=1)
    scene.run()
    scene.publish(1)
    scene.run()
    assert scene[1].unacked == [1]
    scene.die(0)
    scene.run()
    assert scene[1].unacked == [1]
    scene.do("took", 3, 0)
    scene.run()
    assert scene[1].unacked == []
    assert scene.numbers(sub, 1) == [1]


def test_what_a_member_has_of_a_mixed_publication_it_has_wherever_it_comes_from(scene: Scene):
    """Another host shares it out among other subscriptions: nobody gets half of it, or twice."""
    some, slow = scene.subscribe(2, "a.*"), scene.subscribe(3, "b.x", kind=1)
    work = scene.subscribe(4, "b.x", kind=3)
    scene.run()
    scene.do("mix", 1, 0, 6)
    scene.run()
    assert scene.numbers(some, 1) == [1, 2, 4, 5]
    assert scene.numbers(slow, 1) == [3, 6]
    later = [scene.subscribe(member, ">") for member in (2, 3)]
    scene.run()
    scene.die(0)
    scene.elect(4)
    scene.run()
    assert scene[1].unacked == [1, 2, 3, 4, 5, 6]
    assert sorted(seq for _, seq in work.hands) == [3, 6]
    scene.do("took", 3, 0)
    for _ in range(2):
        scene.finish(work)
    scene.run()
    assert scene[1].unacked == []
    scene.rest()
    assert [scene.numbers(sub, 1) for sub in later] == [[], []]
    assert scene.numbers(some, 1) == [1, 2, 4, 5]


def test_of_mixed_publications_that_were_dropped_each_subscription_knows_its_own():
    scene = Scene(5, Settings(queue=300, feed=100, window=1024))
    scene.hosted_by(0)
    every, some = scene.subscribe(3, ">"), scene.subscribe(3, "b.x")
    scene.run()
    scene.hold(3)
    for _ in range(40):
        scene.do("mix", 1, 0, 6)
        scene.do("flush", 1)
        scene.run()
    scene.do("time", LAGGING)
    scene.run()
    scene.let_go()
    scene.rest()
    lacking = [sum(count for _, count in sub.told) for sub in (every, some)]
    assert lacking[0] == 240 - len(scene.numbers(every, 1)) > 0
    assert lacking[1] == 80 - len(scene.numbers(some, 1)) > 0


def test_records_are_described():
    from tests.simulation.trace import describe

    body = r.encode_publication(r.PUBLISH, 0, b"a.x", 3, bytes(16), r.NOBODY, [b"", b""])
    assert describe(bytes(body), lambda member: "m0") == "m0#3..4 a.x "
    body = encode_mixed(1, [b"a.x", b"b.x"], 3, bytes(16), [b"", b""])
    assert describe(body, lambda member: "m0") == "m0#3..4 to a.x b.x ENCODED"
