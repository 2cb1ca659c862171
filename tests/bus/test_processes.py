"""What befalls members that do not host: stops, kills, forks, crowds; others are not hurt by it."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from open_channel.io.presence import list_members
from tests.bus.ledger import (
    BusMember,
    World,
    all_complaints,
    check_jobs,
    check_requests,
    longest_pause,
    silences,
)
from tests.processes import Processes, processes, wait_for

__all__ = ["processes"]

CROWD = 200


@pytest.fixture
def world(channel_dir: Path, tmp_path: Path, processes: Processes) -> World:
    return World(channel_dir, tmp_path, processes)


def subscribe(members: list[BusMember], **options: object) -> None:
    for member in members:
        member.do("subscribe", pattern="news", **options)
        member.expect("subscribed")


# --- slow subscribers -----------------------------------------------------------------------------


def test_a_stopped_subscriber_holds_nobody_up_for_longer_than_the_lag(world: World):
    """It gets all that was published meanwhile when it wakes."""
    world.open("host", limits={"lag": 0.3})
    subscribers = world.open("s1", "s2", hosts=False)
    (publisher,) = world.open("p", hosts=False, limits={"drain": 10_000, "lag": 0.3})
    subscribe(subscribers)
    publisher.do("publish", topic="news", size=100)
    stopped, other = subscribers
    stopped.does(1, "got")
    stopped.stop()
    since = time.monotonic()
    wait_for(lambda: publisher.ask()["without"], "it is left out", timeout=3.0)
    until = time.monotonic()
    # Unacknowledged bytes stopped the publisher until the lag was over; from then on none do.
    wait_for(lambda: sum(at > until for _, at in publisher.published("news")) > 500, "it goes on")
    stopped.cont()
    wait_for(lambda: not publisher.ask()["without"], "it is back")
    publisher.finish()
    assert longest_pause([other], since, float("inf"), "news") < 0.3
    assert until - since < 1.5
    assert not all_complaints(subscribers, [publisher], "news")


def test_a_stopped_subscriber_is_told_what_did_not_fit_its_queue(world: World):
    world.open("host", limits={"lag": 0.2, "queue": 100_000})
    stopped, other = subscribers = world.open("s1", "s2", hosts=False)
    (publisher,) = world.open("p", hosts=False)
    subscribe(subscribers)
    publisher.do("publish", topic="news", burst=5, size=2000)
    stopped.does(1, "got")
    stopped.stop()
    wait_for(lambda: publisher.ask()["without"], "it is left out")
    enough = len(other.got("news")["p"]) + 3000  # more than its socket, its window, and the queue
    wait_for(lambda: len(other.got("news")["p"]) > enough, "the queue overflows")
    stopped.cont()
    end = publisher.finish()
    assert not all_complaints([other], [publisher], "news")
    wait_for(lambda: stopped.got("news")["p"][-1].number == end - 1, "it gets the last")
    assert not silences(stopped, "news")
    got = stopped.got("news")["p"]
    missed = sum(message.missed for message in got)
    print(f"\nqueue overflow: {missed} of {end} missed, and told")
    assert missed > 0
    assert missed == end - len(got)


def test_a_blocked_subscriber_gets_everything_afterwards(world: World):
    world.open("host", limits={"lag": 0.3})
    blocked, other = subscribers = world.open("s1", "s2", hosts=False)
    (publisher,) = world.open("p", hosts=False)
    subscribe(subscribers)
    publisher.do("publish", topic="news", burst=3)
    blocked.does(1, "got")
    blocked.do("block", seconds=1.0)
    begin = blocked.expect("blocking")["at"]
    blocked.expect("blocked")
    publisher.finish()
    assert longest_pause([other], begin, float("inf"), "news") < 0.3
    wait_for(lambda: not all_complaints(subscribers, [publisher], "news"), "all has arrived")


# --- groups ---------------------------------------------------------------------------------------


def test_consumers_and_hosts_are_killed(world: World):
    """Every job is done; none twice by two that live, whoever hosts meanwhile."""
    world.open("host 0", "host 1", "host 2", "host 3")
    publishers = world.open("p1", "p2", hosts=False)
    workers = world.open("w1", "w2", "w3", "w4", "w5", hosts=False)
    for number, worker in enumerate(workers):
        worker.do("work", pattern="jobs", group="g", takes=0.002 * number, prefetch=1 + 3 * number)
        worker.expect("works")
    for publisher in publishers:
        publisher.do("publish", topic="jobs", pause=0.01, burst=2)
    for worker in workers[:3]:
        worker.does(20, "did")
        host = world.host()
        host.kill()
        publishers[0].moves_on(host)
        workers[4].does(20, "did")
        worker.kill()
    sent = [publisher.finish() for publisher in publishers]
    jobs, again = check_jobs(world, publishers)
    print(
        f"\n{jobs} jobs of {sent}, {again} begun again, after 3 hosts and 3 consumers were killed"
    )


def test_long_jobs_in_hand_across_host_deaths(world: World):
    """They are begun once, however many hosts there were meanwhile."""
    world.open("host 0", "host 1", "host 2", "host 3")
    (publisher,) = world.open("p1", hosts=False)
    workers = world.open("w1", "w2", "w3", hosts=False)
    for worker in workers:
        worker.do("work", pattern="jobs", group="g", takes=0.8, prefetch=1)
        worker.expect("works")
    publisher.do("publish", topic="jobs", pause=0.02)
    wait_for(lambda: all(worker.entries("began") for worker in workers), "all are at work")
    publisher.do("stop_publishing")
    for _ in range(3):
        host = world.host()
        host.kill()
        publisher.moves_on(host)
    publisher.expect("flushed", timeout=30.0)
    _, again = check_jobs(world, [publisher])
    assert not again


# --- requests -------------------------------------------------------------------------------------


def test_requests_end_when_hosts_and_responders_are_killed(world: World):
    """With a reply (not another's), or because the responder died; never by the timeout."""
    world.open("host 0", "host 1", "host 2", "host 3")
    responders = world.open("r1", "r2", "r3", hosts=False)
    requesters = world.open("q1", "q2", hosts=False)
    for number, responder in enumerate(responders):
        responder.do("serve", topic="price", takes=0.003 * number)
        responder.expect("serves")
    for requester in requesters:
        requester.do("request", topic="price", timeout=10.0)
    for responder in responders[:2]:
        requesters[0].does(30, "outcome")
        host = world.host()
        host.kill()
        requesters[0].moves_on(host)
        responder.moves_on(host)  # else nobody alive knows what it has in hand
        responder.kill()
    requesters[0].does(30, "outcome")
    for requester in requesters:
        requester.do("stop_requesting")
        requester.expect("requested")
    counted, longest = check_requests(requesters)
    print(f"\nrequests: {dict(counted)}; the longest took {longest * 1e3:.0f} ms")
    assert counted.keys() <= {"reply", "ResponderDied"}
    assert counted["ResponderDied"] <= 4  # one in hand of each requester at each death
    assert longest < 2.0
    numbers = [tuple(asked[:2]) for r in responders for asked in r.entries("asked")]
    assert max(Counter(numbers).values()) == 1, "a request was handled twice"


def test_a_responders_death_is_told_at_once(world: World):
    world.open("host")
    (responder,) = world.open("r1", hosts=False)
    (requester,) = world.open("q1", hosts=False)
    responder.do("serve", topic="price", takes=60.0)
    responder.expect("serves")
    requester.do("request", topic="price", timeout=30.0, pause=60.0)
    wait_for(lambda: responder.entries("asked"), "it is asked")
    responder.kill()
    killed = time.monotonic()
    (outcome,) = wait_for(lambda: requester.entries("outcome"), "the end")
    assert outcome[2] == "ResponderDied"
    assert outcome[-1] - killed < 0.5


# --- who is here ----------------------------------------------------------------------------------


def test_a_crowd_joins_at_once(world: World):
    """One host, and everybody is a member; how long it took is printed."""
    (first,) = world.open("first")
    crowd = world.start("crowd", count=CROWD)
    begin = crowd.expect("crowd")["at_once"]
    crowd.wait(
        lambda events: sum("opened" in event for event in events) == CROWD, "all are open", 40.0
    )
    took = time.monotonic() - begin
    pids = {event["pid"] for event in crowd.events if "opened" in event} | {first.pid}
    wait_for(lambda: {*first.ask()["members"]} == pids, "the first sees all")
    print(f"\n{CROWD} processes joined within {took:.1f} s")
    assert len({record.pid for record in list_members(world.files)}) == CROWD + 1
    assert world.host() is first
    assert not crowd.errors()


def test_a_crowd_starts_a_channel(world: World):
    """... and elects one host among itself."""
    crowd = world.start("crowd", count=50)
    begin = crowd.expect("crowd")["at_once"]
    crowd.wait(lambda events: sum("opened" in event for event in events) == 50, "all are open")
    print(f"\n50 processes made a channel within {time.monotonic() - begin:.1f} s")
    (last,) = world.open("last")
    pids = {event["pid"] for event in crowd.events if "opened" in event} | {last.pid}
    wait_for(lambda: {*last.ask()["members"]} == pids, "the last sees all")
    assert last.ask()["epoch"] == 1
    assert not crowd.errors()


def test_a_killed_member_is_seen_to_leave(world: World):
    watcher, member = world.open("watcher", "member")
    watcher.do("watch")
    watcher.expect("watching")
    member.kill()
    killed = time.monotonic()
    assert watcher.sees_leave(member) - killed < 1.0


# --- fork -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["host", "p1"])
def test_a_fork_hurts_nobody(world: World, who: str):
    """The parent goes on, whether it hosts or not; the child starts clean, as a new member."""
    world.open("host")
    subscribers = world.open("s1", "s2")
    publishers = world.open("p1", "p2")
    subscribe(subscribers)
    for publisher in publishers:
        publisher.do("publish", topic="news")
    parent = next(member for member in world.members if member.name == who)
    subscribers[0].does(1, "got")
    parent.do("fork")
    assert parent.expect("child")["child"] == "ChannelForked"
    child = parent.wait(
        lambda events: [e for e in events if "opened" in e and e["pid"] != parent.pid], "the child"
    )[0]["pid"]
    pids = {*(member.pid for member in world.living), child}
    wait_for(lambda: {*parent.ask()["members"]} == pids, "the child is a member")
    os.kill(child, 9)
    wait_for(lambda: child not in parent.ask()["members"], "it has left")
    parent.kill()  # its descriptors are closed in the child: nothing keeps it alive
    living = world.settle()
    assert living is not parent
    for publisher in publishers:
        if not publisher.dead:
            publisher.finish()
    assert not all_complaints(subscribers, publishers, "news")
