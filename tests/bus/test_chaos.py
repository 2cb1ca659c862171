"""Everything at once: for some seconds, whatever can befall a process does; the ledger decides.

``CHAOS_SEED`` repeats a choice of what happens (not of when), ``CHAOS_SECONDS`` prolongs it.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bus.ledger import (
    BusMember,
    World,
    all_complaints,
    check_jobs,
    check_requests,
    longest_pause,
    silences,
)
from tests.processes import Processes, processes

__all__ = ["processes"]

SECONDS = float(os.environ.get("CHAOS_SECONDS", "10"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.randrange(1, 1 << 32)
LIMITS = {"heartbeat": 0.1, "timeout": 0.3, "lag": 1.5, "grace": 4.0}
LONG = 2.0  # seconds; longer than the lag


class Chaos:
    """Who is there, and what befalls them.

    Some stay to the end and are in touch all the time: what they get must be exact. All others
    come and go.
    """

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.chance = chance
        self.counter = 0
        self.happened: Counter[str] = Counter()
        self.asleep: list[threading.Timer] = []
        self.staying: list[BusMember] = []
        self.passing: dict[str, list[BusMember]] = {}

    def begin(self) -> None:
        for role, count in {"subscriber": 2, "publisher": 2, "worker": 2, "responder": 1}.items():
            for _ in range(count):
                self.staying.append(self.enter(role, uvloop=len(self.staying) % 2 == 1))
        self.staying.append(self.enter("requester", uvloop=True))
        for role in [
            "host",
            "host",
            "host",
            "host",
            "subscriber",
            "publisher",
            "worker",
            "responder",
        ]:
            self.passing.setdefault(role, []).append(self.enter(role, hosts=True))
        # Publishers are last: a job that nobody is there for is nobody's.
        for member in sorted(self.world.members, key=lambda m: m.name.startswith("publisher")):
            self.act(member.opened())

    def enter(self, role: str, *, hosts: bool = False, uvloop: bool = False) -> BusMember:
        self.counter += 1
        name = f"{role} {self.counter}"
        return self.world.start(name, hosts=hosts, uvloop=uvloop, limits=LIMITS)

    def act(self, member: BusMember) -> None:
        """Let a member do what its role is."""
        match member.name.split()[0]:
            case "subscriber":
                member.do("subscribe", pattern="news")
                member.expect("subscribed")
            case "publisher":
                member.do("publish", topic="news", pause=0.003, burst=3)
                member.do("publish", topic="jobs", pause=0.01)
            case "worker":
                member.do("work", pattern="jobs", group="g", takes=0.002)
                member.expect("works")
            case "responder":
                member.do("serve", topic="price", takes=0.002)
                member.expect("serves")
            case "requester":
                member.do("request", topic="price", timeout=15.0)

    # --- what happens ----------------------------------------------------------------------

    def step(self) -> None:
        """Let one thing happen, of those that can happen now."""
        kinds: dict[Callable[[], None], int] = {
            self.kill_the_host: 6,
            self.kill_one: 6,
            self.close_the_host: 3,
            self.stop_the_host: 3,
            self.stop_one_for_long: 2,
            self.stop_one_for_a_moment: 3,
            self.block_a_loop: 3,
            self.hold_an_interpreter: 1,
            self.delete_the_directory: 1,
        }
        (what,) = self.chance.choices(list(kinds), list(kinds.values()))
        self.happened[what.__name__.replace("_", " ")] += 1
        what()
        if self.chance.random() < 0.7:  # else the next thing happens in the midst of this one
            time.sleep(self.chance.uniform(0.0, 0.4))  # no wait for anything: it is the rhythm

    def pick(self) -> BusMember:
        """One of those who come and go, and is not asleep."""
        awake = [m for members in self.passing.values() for m in members if not m.stopped]
        return self.chance.choice(awake)

    def replace(self, member: BusMember) -> None:
        role = member.name.split()[0]
        self.passing[role].remove(member)
        newcomer = self.enter(role, hosts=True).opened()
        self.passing[role].append(newcomer)
        self.act(newcomer)

    def kill_the_host(self) -> None:
        host = self.world.host()
        host.kill()
        self.replace(host)

    def kill_one(self) -> None:
        member = self.pick()
        member.kill()
        self.replace(member)

    def close_the_host(self) -> None:
        host = self.world.host()
        if host.stopped:
            return
        host.dead = True
        host.do("close")
        self.replace(host)

    def stop_the_host(self) -> None:
        self.sleep(self.world.host(), LONG)

    def stop_one_for_long(self) -> None:
        self.sleep(self.pick(), LONG)

    def stop_one_for_a_moment(self) -> None:
        self.sleep(self.chance.choice(self.staying), 0.2)

    def sleep(self, member: BusMember, seconds: float) -> None:
        self.asleep = [timer for timer in self.asleep if timer.is_alive()]
        if not member.stopped and len(self.asleep) < 3:
            member.stop()
            # A thread of its own wakes it in time, whatever else takes how long.
            timer = threading.Timer(seconds, member.cont)
            timer.start()
            self.asleep.append(timer)

    def block_a_loop(self) -> None:
        self.pick().do("block", seconds=0.5)

    def hold_an_interpreter(self) -> None:
        self.pick().do("hold", seconds=0.7)

    def delete_the_directory(self) -> None:
        if not any(
            timer.is_alive() for timer in self.asleep
        ):  # nobody could tell who is alive of those who sleep
            shutil.rmtree(self.world.directory, ignore_errors=True)

    # --- the end ---------------------------------------------------------------------------

    def end(self) -> dict[str, int]:
        """All wake, and finish what they do; returns how many messages there were of each."""
        for timer in self.asleep:
            timer.join()
        self.world.settle()
        living = self.world.living
        publishers = [member for member in living if member.name.startswith("publisher")]
        for member in living:
            member.do("stop_requesting")
            member.do("stop_publishing")
        flushed = Counter[str]()
        for publisher in publishers:
            events = publisher.wait(
                lambda events: e if len(e := [x for x in events if "flushed" in x]) == 2 else None,
                "it has flushed",
                30.0,
            )
            flushed.update({event["topic"]: event["flushed"] for event in events})
        for member in self.staying:
            if member.name.startswith("requester"):
                member.expect("requested")
        return flushed


@pytest.mark.timeout(90)
def test_everything_at_once(channel_dir: Path, tmp_path: Path, processes: Processes):
    world = World(channel_dir, tmp_path, processes)
    print(f"\nCHAOS_SEED={SEED}")
    chaos = Chaos(world, random.Random(SEED))
    chaos.begin()
    begin = time.monotonic()
    while time.monotonic() < begin + SECONDS:
        chaos.step()
    until = time.monotonic()
    flushed = chaos.end()

    subscribers = [member for member in world.members if member.name.startswith("subscriber")]
    publishers = [member for member in world.members if member.name.startswith("publisher")]
    exact = [member for member in chaos.staying if member in subscribers]
    constant = [member for member in chaos.staying if member in publishers]
    problems = all_complaints(exact, constant, "news")
    problems += [text for member in subscribers for text in silences(member, "news")]
    outcomes, longest = check_requests(chaos.staying[-1:])
    jobs, again = check_jobs(world, constant)
    table = {
        **chaos.happened,
        "messages of those who live": flushed["news"],
        "received by those who stayed": sum(len(m.entries("got")) for m in exact),
        "longest under way, ms": round(longest_pause(exact, begin, until, "news") * 1e3),
        "jobs": jobs,
        "jobs begun again": again,
        **{f"requests: {outcome}": count for outcome, count in outcomes.items()},
        "longest request, ms": round(longest * 1e3),
        "hosts": world.host().ask()["epoch"],
    }
    for name, value in table.items():
        print(f"  {name:<32}{value:>9}")
    assert not problems
    assert outcomes.keys() <= {"reply", "ResponderDied"}
    assert longest < 10.0
