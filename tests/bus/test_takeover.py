"""The host dies, hangs, or leaves, again and again: living members lose nothing, and wait little."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bus.ledger import BusMember, World, all_complaints, longest_pause
from tests.processes import Processes, processes, wait_for

__all__ = ["processes"]

LOOPS = pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])


@pytest.fixture
def world(channel_dir: Path, tmp_path: Path, processes: Processes) -> World:
    return World(channel_dir, tmp_path, processes)


def taken_over(world: World, members: list[BusMember], dead: BusMember) -> None:
    """Wait until all of them are connected to another host."""
    host = world.host()
    assert host is not dead
    for member in members:
        wait_for(lambda member=member: member.ask()["host"] != dead.pid, f"{member} is connected")


def end_hosts(world: World, times: int, end: Callable[[BusMember], None]) -> list[float]:
    """End the host again and again, some while the takeover before is under way."""
    ends = []
    for number in range(times):
        host = world.host()
        ends.append(time.monotonic())
        end(host)
        world.start(f"host {number + 10}")
        if number % 3:
            taken_over(world, [m for m in world.living if m.name[0] in "ps"], host)
    return ends


@LOOPS
def test_hosts_are_killed_again_and_again(world: World, uvloop: bool):
    world.open("host 1", "host 2", "host 3")
    subscribers = world.open("s1", "s2", "s3", hosts=False, uvloop=uvloop)
    publishers = world.open("p1", "p2", "p3", hosts=False, uvloop=uvloop)
    for subscriber in subscribers:
        subscriber.do("subscribe", pattern="news")
        subscriber.expect("subscribed")
    for burst, publisher in enumerate(publishers):
        publisher.do("publish", topic="news", burst=1 + 5 * burst)
    kills = end_hosts(world, 9, BusMember.kill)
    sent = [publisher.finish() for publisher in publishers]
    pauses = [longest_pause(subscribers, at - 0.2, at + 0.2, "news") for at in kills]
    print(
        f"\n{sent} messages, {len(kills)} kills, uvloop {uvloop}; longest pauses in ms:",
        [round(pause * 1e3, 1) for pause in pauses],
    )
    assert not all_complaints(subscribers, publishers, "news")
    assert sorted(pauses)[len(pauses) // 2] < 1.0


@LOOPS
def test_whoever_hosts_is_killed(world: World, uvloop: bool):
    """Publishers and subscribers host, and die: the others' messages stay exact."""
    members = world.open(*[f"m{number}" for number in range(4)], uvloop=uvloop)
    for member in members:
        member.do("subscribe", pattern="news")
        member.expect("subscribed")
    for member in members:
        member.do("publish", topic="news", burst=3)
    kills = []
    for number in range(6):
        host = world.host()
        kills.append(time.monotonic())
        host.kill()
        (newcomer,) = world.open(f"n{number}", uvloop=uvloop)
        newcomer.do("subscribe", pattern="news")
        newcomer.expect("subscribed")
        newcomer.do("publish", topic="news", burst=3)
    for member in world.living:
        member.do("stop_publishing")
    for member in world.living:
        member.finish()
    pauses = [longest_pause(world.living, at - 0.2, at + 0.2, "news") for at in kills]
    print(f"\n{len(kills)} kills; longest pauses in ms:", [round(p * 1e3, 1) for p in pauses])
    assert not all_complaints(world.members, world.members, "news")
