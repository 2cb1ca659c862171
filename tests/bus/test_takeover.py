"""The host dies, hangs or leaves, again and again: living members lose nothing, and wait little."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from open_channel.io.presence import list_members
from tests.bus.ledger import QUICK, BusMember, World, all_complaints, longest_pause, silences
from tests.processes import Processes, delete_directory, processes, wait_for

__all__ = ["processes"]

LOOPS = pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])


@pytest.fixture
def world(channel_dir: Path, tmp_path: Path, processes: Processes) -> World:
    return World(channel_dir, tmp_path, processes)


def stream(world: World, uvloop: bool, **config: object) -> tuple[list[BusMember], list[BusMember]]:
    """Three that subscribe and three that publish to it; returns both."""
    subscribers = world.open("s1", "s2", "s3", uvloop=uvloop, **config)
    publishers = world.open("p1", "p2", "p3", uvloop=uvloop, **config)
    for subscriber in subscribers:
        subscriber.do("subscribe", pattern="news")
        subscriber.expect("subscribed")
    for burst, publisher in enumerate(publishers):
        # Some 2,000 messages a second in all: with many more, what is written down of them keeps
        # the processors busier than the bus does.
        publisher.do("publish", topic="news", burst=1 + burst, pause=0.003)
    return subscribers, publishers


def taken_over(members: list[BusMember], before: BusMember) -> None:
    """Wait until all of them are connected to another host."""
    for member in members:
        member.moves_on(before)


def sees_all(member: BusMember, others: list[BusMember]) -> None:
    """Wait until it knows of just these."""
    pids = {other.pid for other in others}
    wait_for(lambda: {*member.ask()["members"]} == pids, f"{member} sees all")


def report(what: str, sent: list[int], subscribers: list[BusMember], ends: list[float]) -> float:
    """Print how long messages were under way after each end of a host; return the median."""
    pauses = [
        longest_pause(subscribers, at - 0.01, min(at + 0.2, following), "news")
        for at, following in zip(ends, [*ends[1:], float("inf")], strict=True)
    ]
    times = [f"{pause * 1e3:.0f}" for pause in pauses]
    print(f"\n{what}: {sum(sent)} messages; ms of pause at each end of a host: {' '.join(times)}")
    return sorted(pauses)[len(pauses) // 2]


@LOOPS
@pytest.mark.parametrize("how", ["killed", "left"])
def test_hosts_go_again_and_again(world: World, how: str, uvloop: bool):
    """... now and then another one while the takeover before is under way."""
    world.open(*[f"host {number}" for number in range(10)])
    subscribers, publishers = stream(world, uvloop, hosts=False)
    ends = []
    for number in range(9):
        host = world.host()
        ends.append(time.monotonic())
        if how == "killed":
            host.kill()
        else:
            host.dead = True
            host.do("close")
            host.expect("closed")
        if number % 3:
            taken_over(subscribers + publishers, host)
            for subscriber in subscribers:
                subscriber.does(1, "got")  # or, on a busy machine, one pause is that of them all
    sent = [publisher.finish() for publisher in publishers]
    median = report(f"9 hosts {how}, uvloop {uvloop}", sent, subscribers, ends)
    assert not all_complaints(subscribers, publishers, "news")
    assert median < 1.0


@LOOPS
def test_hosts_are_killed_under_streams_to_changing_topics(world: World, uvloop: bool):
    """Whether a subscriber wants all of what came together or some of it, or takes it slowly."""
    world.open(*[f"host {number}" for number in range(8)])
    topics = ["news", "weather", "sport"]
    patterns = {"s1": (">", {}), "s2": ("weather", {}), "s3": (">", {"overflow": "block"})}
    subscribers = world.open(*patterns, uvloop=uvloop, hosts=False)
    for subscriber, (pattern, options) in zip(subscribers, patterns.values(), strict=True):
        subscriber.do("subscribe", pattern=pattern, **options)
        subscriber.expect("subscribed")
    publishers = world.open("p1", "p2", uvloop=uvloop, hosts=False)
    for publisher in publishers:
        publisher.do("publish", topic=topics[0], others=topics[1:], burst=3)
    for _ in range(7):
        host = world.host()
        host.kill()
        taken_over(subscribers + publishers, host)
    assert min(publisher.finish() for publisher in publishers) > 0
    one, two, three = subscribers
    for topic in topics:
        who = [one, two, three] if topic == "weather" else [one, three]
        assert not all_complaints(who, publishers, topic)
    assert not two.got("news")


@LOOPS
def test_whoever_hosts_is_killed(world: World, uvloop: bool):
    """Publishers and subscribers host, and die: the others' messages stay exact."""
    for number in range(10):
        (newcomer,) = world.open(f"m{number}", uvloop=uvloop)
        newcomer.do("subscribe", pattern="news")
        newcomer.expect("subscribed")
        newcomer.do("publish", topic="news", burst=3)
        if number >= 3:
            world.host().kill()
    for member in world.living:
        member.do("stop_publishing")
    sent = [member.finish() for member in world.living]
    assert min(sent) > 0
    assert not all_complaints(world.members, world.members, "news")


@LOOPS
def test_a_stopped_host_is_replaced_and_comes_back_as_a_member(world: World, uvloop: bool):
    """It subscribes and publishes too: nothing comes twice, and nothing is lost silently."""
    hosts = world.open("host 1", "host 2", limits=QUICK, uvloop=uvloop)
    subscribers, publishers = stream(world, uvloop, hosts=False, limits=QUICK)
    for host in hosts:
        host.do("subscribe", pattern="news")
        host.expect("subscribed")
        host.do("publish", topic="news", pause=0.003)
    publishers += hosts
    for _ in range(2):
        host = world.host()
        stopped = time.monotonic()
        host.stop()
        taken_over(subscribers, host)
        pause = longest_pause(subscribers, stopped, time.monotonic(), "news")
        print(f"\nstopped host replaced, uvloop {uvloop}: {pause * 1e3:.0f} ms of pause")
        assert pause < 3.0
        host.cont()
        world.settle()
    sent = [publisher.finish() for publisher in publishers]
    assert min(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")
    assert not [complaint for host in hosts for complaint in silences(host, "news")]


@LOOPS
def test_a_host_that_was_stopped_finds_nobody_late_for_that(world: World, uvloop: bool):
    """It is stopped for longer than ``lag``, woken, and killed before it has read what came."""
    limits = {"lag": 0.5}
    world.open("host 1", "host 2", "host 3", "host 4", limits=limits, uvloop=uvloop)
    subscribers = world.open("s1", "s2", hosts=False, limits=limits, uvloop=uvloop)
    publishers = world.open("p1", "p2", hosts=False, limits=limits, uvloop=uvloop)
    for subscriber in subscribers:
        subscriber.do("subscribe", pattern="news")
        subscriber.expect("subscribed")
    for publisher in publishers:
        # So much that the host always has some of it in hand.
        publisher.do("publish", topic="news", burst=10, pause=0.001, size=50_000)
    for _ in range(3):
        for subscriber in subscribers:
            subscriber.does(100, "got")
        host = world.host()
        host.stop()
        time.sleep(1.0)
        host.cont()
        time.sleep(0.02)
        host.kill()
        taken_over(subscribers, host)
    sent = [publisher.finish() for publisher in publishers]
    assert min(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")


@LOOPS
def test_a_blocked_event_loop_still_hosts(world: World, uvloop: bool):
    """The broker runs in a thread of its own: others do not notice."""
    (host,) = world.open("host", uvloop=uvloop)
    world.open("other")
    subscribers, publishers = stream(world, uvloop, hosts=False, limits=QUICK)
    host.do("subscribe", pattern="news")
    host.expect("subscribed")
    subscribers[0].does(1, "got")
    host.do("block", seconds=1.0)
    begin = host.expect("blocking")["at"]
    end = host.expect("blocked")["at"]
    sent = [publisher.finish() for publisher in publishers]
    pause = longest_pause(subscribers, begin, end, "news")
    print(f"\na host's loop blocked for 1 s, uvloop {uvloop}: {pause * 1e3:.0f} ms of pause")
    assert world.host() is host
    assert host.ask()["epoch"] == 1
    assert pause < 0.5
    assert sum(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")
    wait_for(lambda: not all_complaints([host], publishers, "news"), "it gets what came meanwhile")


def test_a_host_that_holds_the_interpreter_is_replaced(world: World):
    (host,) = world.open("host", limits=QUICK)
    world.open("other", limits=QUICK)
    subscribers, publishers = stream(world, False, hosts=False, limits=QUICK)
    host.do("hold", seconds=1.3)
    host.expect("blocking")
    taken_over(subscribers + publishers, host)
    host.expect("blocked")
    world.settle()
    sent = [publisher.finish() for publisher in publishers]
    assert sum(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")


def test_the_directory_is_deleted_under_a_live_host(world: World):
    """Healed: the host sees it, and whoever is there meets again in the new directory."""
    world.open("host 1", "host 2", limits=QUICK)
    subscribers, publishers = stream(world, False, limits=QUICK)
    subscribers[0].does(1, "got")
    delete_directory(world.directory)
    wait_for(world.directory.exists, "it is made again")
    world.settle()
    sent = [publisher.finish() for publisher in publishers]
    assert sum(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")


def test_the_directory_is_deleted_and_the_next_host_dies_too(world: World):
    """What those out of touch had published before is not received again, nor lost to them."""
    limits = QUICK | {"lag": 30.0, "grace": 20.0}
    world.open("host 0", "host 1", limits=limits)
    subscribers = world.open("s1", "s2", limits=limits, hosts=False)
    publishers = world.open("p1", "p2", limits=limits, hosts=False)
    for subscriber in subscribers:
        subscriber.do("subscribe", pattern="news")
        subscriber.expect("subscribed")
    late = subscribers[1]
    late.stop()
    publishers[0].do("publish", topic="news")
    subscribers[0].does(20, "got")  # and no publisher is told so while the late one lacks it
    publishers[0].stop()
    delete_directory(world.directory)
    awake = {member.pid for member in world.living if not member.stopped}
    wait_for(lambda: {m.pid for m in list_members(world.files)} == awake, "those awake are back")
    host = world.host()
    host.kill()
    for member in (subscribers[0], publishers[1]):
        member.moves_on(host)
        sees_all(member, world.living)  # also the stopped ones, of whom no file tells
    publishers[1].do("publish", topic="news")
    subscribers[0].does(20, "got")
    for member in (late, publishers[0]):
        member.cont()
    sent = [publisher.finish() for publisher in publishers]
    assert min(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")


def test_a_loop_that_ends_without_a_close_leaves(world: World):
    """asyncio.run() ends, and the process lives on: it is no member any more, and no host."""
    host, watcher = *world.open("host"), *world.open("watcher")
    subscribers, publishers = stream(world, False)
    watcher.do("watch")
    watcher.expect("watching")
    assert world.host() is host
    for gone in (host, publishers.pop()):
        gone.dead = True  # as far as the channel goes
        gone.do("return")
        gone.expect("loop_ended")
        watcher.sees_leave(gone, timeout=2.0)
        assert gone.popen.poll() is None
        assert "ERROR" not in gone.errors()
    world.settle()
    sent = [publisher.finish() for publisher in publishers]
    assert sum(sent) > 0
    assert not all_complaints(subscribers, publishers, "news")
