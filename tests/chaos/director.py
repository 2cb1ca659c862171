"""Lets happen what the schedule says, to whom it can happen at that moment."""

from __future__ import annotations

import heapq
import itertools
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.chaos.crew import Actor, Crew
from tests.chaos.schedule import Step, schedule

__all__ = ["LIMITS", "Director"]

LIMITS = {"heartbeat": 0.1, "timeout": 0.3, "lag": 1.5, "grace": 4.0, "drain": 400_000}
"""A hung host is seen soon, and whoever is stopped for long is longer than lag and grace away."""

_NEWS = {"pattern": "news.*"}
_CAREFUL = {"pattern": "careful.*", "overflow": "block", "queue": 20_000, "takes": 0.002}
_SLOW = {"pattern": "news.*", "queue": 20_000, "takes": 0.02}
_SPEAKS = {"families": {"news": 2, "jobs": 1}, "pause": 0.02}
_SPEAKS_CAREFULLY = {"families": {"careful": 2}, "pause": 0.02}
_WORKS = {"takes": 0.002, "prefetch": 8}
_ASKS = {"pause": 0.02, "timeout": 25.0}
_LOCKS = {"takes": 0.02, "pause": 0.01}
_LEADS = {"takes": 1.0, "pause": 0.05}
_TALKS = {"pause": 0.02, "takes": 0.005}

STAYING: list[tuple[str, str, bool, dict[str, Any]]] = [
    ("subscriber", "asyncio", False, _NEWS),
    ("subscriber", "uvloop", True, _NEWS),
    ("subscriber", "blocking", False, _NEWS),
    ("subscriber", "asyncio", False, _CAREFUL),
    ("subscriber", "blocking", False, _CAREFUL),
    ("subscriber", "uvloop", False, _SLOW),
    ("worker", "asyncio", False, _WORKS),
    ("worker", "blocking", False, _WORKS),
    ("responder", "uvloop", False, {"takes": 0.002}),
    ("responder", "blocking", False, {"takes": 0.002}),
    ("talker", "uvloop", False, _TALKS),
    ("talker", "blocking", False, _TALKS),
    ("locker", "asyncio", False, _LOCKS),
    ("publisher", "asyncio", True, _SPEAKS),
    ("publisher", "blocking", False, _SPEAKS),
    ("publisher", "uvloop", False, _SPEAKS_CAREFULLY),
    ("requester", "asyncio", False, _ASKS),
    ("requester", "blocking", True, _ASKS),
]
"""Role, runtime, whether it may host the broker, and options of those who stay to the end."""

PASSING: list[tuple[str, dict[str, Any]]] = [
    ("listener", _TALKS),
    ("listener", _TALKS),
    ("listener", _TALKS),
    ("subscriber", _NEWS),
    ("subscriber", _CAREFUL),
    ("worker", _WORKS),
    ("responder", {"takes": 0.01}),
    ("talker", _TALKS),
    ("locker", _LOCKS),
    ("leader", _LEADS),
    ("leader", _LEADS),
    ("leader", _LEADS),
    ("publisher", _SPEAKS),
]
"""Role and options of those who come and go; each is replaced by another."""

_VISITS = ["subscriber", "publisher", "locker", "worker"]
_OPTIONS: dict[str, dict[str, Any]] = {
    "subscriber": _NEWS,
    "publisher": _SPEAKS,
    "locker": _LOCKS,
    "worker": _WORKS,
}
_READY = {"subscriber": "subscribed", "worker": "works", "responder": "serves"}

_ASLEEP = 3  # at once, at most
_HEALS = 2.0  # seconds in which all who run come back after the directory was deleted
_RETURNS = LIMITS["grace"] - 1.0  # seconds in which others do, who are stopped when it is
# Those who sleep name some who are dead, and no file says so: each host waits for them until its
# grace is over, and acknowledges nothing. Where hosts died faster than that it would never end.
_FORGETS = LIMITS["grace"] + 1.0
_MOMENT = (0.05, 0.6)  # seconds; less than the lag: who stays is in touch all the same
_STOP = (0.4, 5.5)
_COMES = 5.0  # seconds in which a process has opened its channel, or never will
_OPENING = 2.0  # seconds; whoever opens a channel gives up after five, asleep or not
_BLOCK = (0.1, 2.5)


class Director:
    """Who is there, and what befalls them."""

    def __init__(self, crew: Crew, seed: int, tell: Callable[[str], None]) -> None:
        self.crew = crew
        self._tell = tell
        self.seed = seed
        self.chance = random.Random(seed)
        self.log: list[tuple[float, str]] = []
        self.happened: Counter[str] = Counter()
        self.deleted: list[tuple[float, float]] = []
        self._healed = 0.0
        """When all are back, or given up, since the last of them."""
        self._wakes: list[tuple[float, int, Actor]] = []
        self._keys = itertools.count()
        self._step = Step(0.0, "", 0.0, 0.0)

    # --- who is there ----------------------------------------------------------------------

    def begin(self) -> None:
        """Those who stay come first, and of them those last who need that others are there.

        A job that nobody is there for is nobody's, and so is a request.
        """
        for role, runtime, hosts, options in STAYING:
            if role in {"publisher", "requester"}:
                self._wait_ready()
            self._enter(role, options, runtime=runtime, hosts=hosts, stays=True)
        for role, options in PASSING:
            self._enter(role, options)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 30.0
        for actor in self.crew.actors:
            kind = _READY.get(actor.role, "opened")
            while not actor.ledger.of(kind):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{actor}: no {kind!r} within 30 s")
                time.sleep(0.01)

    def _enter(
        self,
        role: str,
        options: dict[str, Any],
        *,
        runtime: str = "",
        hosts: bool = True,
        stays: bool = False,
        lasts: float = 0.0,
    ) -> Actor:
        runtime = runtime or self.chance.choice(["asyncio", "uvloop", "blocking"])
        seed = self.chance.randrange(1 << 32)
        config = self.crew.config(
            role, runtime, options=options, seed=seed, hosts=hosts, lasts=lasts
        )
        return self.crew.start(config, stays=stays)

    def _replace(self, actor: Actor) -> None:
        if not actor.config.lasts:
            self._enter(actor.role, actor.config.options)

    def last(self) -> Actor:
        """One more, who hosts both services for a moment."""
        return self._enter("listener", _TALKS, lasts=0.2)

    def say(self, text: str) -> None:
        self.log.append((time.monotonic(), text))
        self._tell(text)

    def _passing(self) -> list[Actor]:
        return [a for a in self.crew.present if not a.stays and not a.stopped and a.alive]

    def _one(self, actors: list[Actor]) -> Actor | None:
        return actors[int(self._step.spot * len(actors))] if actors else None

    def _span(self, span: tuple[float, float]) -> float:
        return span[0] + self._step.length * (span[1] - span[0])

    # --- the time --------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let the schedule run for so long."""
        begin = time.monotonic()
        for step in schedule(self.seed):
            if step.at > seconds:
                break
            self._wait_until(begin + step.at)
            if time.monotonic() > begin + seconds:
                break
            self._step = step
            if self._heals():
                continue  # who lives can be told from who is dead again when all are back
            name = step.kind.replace("'s", "").replace(" ", "_")
            if getattr(self, name)():
                self.happened[step.kind] += 1

    def _heals(self) -> bool:
        return time.monotonic() < self._healed

    def _wait_until(self, when: float) -> None:
        while True:
            while self._wakes and self._wakes[0][0] <= time.monotonic():
                _, _, actor = heapq.heappop(self._wakes)
                self._wake(actor)
            until = min(when, self._wakes[0][0]) if self._wakes else when
            left = until - time.monotonic()
            if left > 0:
                time.sleep(left)  # no wait for anything: it is the rhythm
            elif until == when:
                return

    def _wake(self, actor: Actor) -> None:
        if actor.killed is None:
            actor.cont()
            self.say(f"{actor} goes on")

    def wake_all(self) -> None:
        """Whoever sleeps wakes now."""
        while self._wakes:
            self._wake(heapq.heappop(self._wakes)[2])

    # --- what happens ----------------------------------------------------------------------

    def _kill(self, actor: Actor | None, why: str) -> bool:
        if actor is None or actor.stays or not actor.alive:
            return False
        hosted = [service for service in ("broker", "listener") if self.crew.host(service) is actor]
        actor.kill()
        for service in hosted:
            self.happened[f"SIGKILL of the {service}'s host"] += 1
        if hosted:
            self.happened["SIGKILL of a host"] += 1
        self.happened["SIGKILL"] += 1
        self.say(f"{why}: {actor} is killed; it hosted {' and '.join(hosted) or 'nothing'}")
        self._replace(actor)
        return True

    def _stop(self, actor: Actor | None, seconds: float) -> bool:
        asleep = sum(other.stopped for other in self.crew.present)
        if actor is None or actor.stopped or not actor.alive or asleep >= _ASLEEP:
            return False
        if not actor.id:
            seconds = min(seconds, _OPENING)
        self.say(f"{actor} is stopped for {seconds:.2f} s")
        actor.stop()
        now = time.monotonic()
        if actor.busy_until > now:
            actor.busy_until += seconds  # what keeps it busy goes on when it does
        else:
            actor.busy_until = now + seconds
        heapq.heappush(self._wakes, (now + seconds, next(self._keys), actor))
        return True

    def _stop_host(self, service: str) -> bool:
        host = self.crew.host(service)
        stays = host is not None and host.stays
        return self._stop(host, self._span(_MOMENT if stays else _STOP))

    def _leave(self, actor: Actor | None) -> bool:
        if actor is None or actor.stays or actor.stopped or actor.config.lasts:
            return False
        self.say(f"{actor} leaves")
        actor.leave()
        self._replace(actor)
        return True

    def _fork(self, actor: Actor | None) -> bool:
        if actor is None or actor.stopped or actor.config.lasts or not actor.id:
            return False
        role = _VISITS[int(self._step.length * len(_VISITS))]
        config = self.crew.config(
            role,
            actor.config.runtime,
            options=_OPTIONS[role],
            seed=self.chance.randrange(1 << 32),
            lasts=0.5 + 2.0 * self._step.spot,
        )
        self.say(f"{actor} forks {config.name}")
        self.crew.fork(actor, config)
        return True

    def kill_the_broker_host(self) -> bool:
        return self._kill(self.crew.host("broker"), "the broker's host")

    def kill_the_listener_host(self) -> bool:
        return self._kill(self.crew.host("listener"), "the listener's host")

    def kill_one(self) -> bool:
        return self._kill(self._one(self._passing()), "one of them")

    def kill_the_host_and_one_more(self) -> bool:
        host = self.crew.host("broker")
        other = self._one([actor for actor in self._passing() if actor is not host])
        return self._kill(host, "the host, and one more") and self._kill(other, "one more")

    def stop_the_broker_host(self) -> bool:
        return self._stop_host("broker")

    def stop_the_listener_host(self) -> bool:
        return self._stop_host("listener")

    def stop_one(self) -> bool:
        return self._stop(self._one(self._passing()), self._span(_STOP))

    def stop_one_for_a_moment(self) -> bool:
        staying = [a for a in self.crew.present if a.stays and not a.stopped]
        return self._stop(self._one(staying), self._span(_MOMENT))

    def the_broker_host_leaves(self) -> bool:
        return self._leave(self.crew.host("broker"))

    def the_listener_host_leaves(self) -> bool:
        return self._leave(self.crew.host("listener"))

    def one_leaves(self) -> bool:
        return self._leave(self._one(self._passing()))

    def the_host_forks(self) -> bool:
        return self._fork(self.crew.host("broker"))

    def one_forks(self) -> bool:
        return self._fork(self._one([a for a in self.crew.present if not a.stopped]))

    def the_host_forks_and_is_killed(self) -> bool:
        host = self.crew.host("broker")
        if host is None or host.stays or not self._fork(host):
            return False
        child = self.crew.actors[-1]
        deadline = time.monotonic() + 0.5  # it may be busy, or blocked
        while not child.ledger.of("born", "in child") and time.monotonic() < deadline:
            time.sleep(0.002)
        return self._kill(host, "after its fork")

    def one_more_joins(self) -> bool:
        role = _VISITS[int(self._step.spot * len(_VISITS))]
        actor = self._enter(role, _OPTIONS[role], lasts=0.2 + 4.0 * self._step.length)
        self.say(f"{actor} joins for {actor.config.lasts:.1f} s")
        return True

    def a_loop_is_blocked(self) -> bool:
        return self._do(self._one(self._passing()), "block")

    def a_call_holds_the_host_interpreter(self) -> bool:
        return self._do(self.crew.host("broker"), "hold")

    def a_call_holds_an_interpreter(self) -> bool:
        return self._do(self._one(self._passing()), "hold")

    def _do(self, actor: Actor | None, command: str) -> bool:
        if actor is None or actor.config.lasts:
            return False
        seconds = self._span(_MOMENT if actor.stays else _BLOCK)
        self.say(f"{actor}: {command} for {seconds:.2f} s")
        actor.do(command, seconds=seconds)
        actor.busy_until = max(actor.busy_until, time.monotonic()) + seconds
        return True

    def the_directory_is_deleted(self) -> bool:
        begin = time.monotonic()
        asleep = [a.busy_until for a in self.crew.present if a.alive and a.busy_until > begin]
        longest = max(asleep, default=begin) - begin
        if longest > _RETURNS:
            return False  # nobody could tell that those who sleep are alive
        coming = [a for a in self.crew.actors if a.killed is None and begin - a.born < _COMES]
        if any(not actor.id for actor in coming):
            return False  # it may be the first in the new one, and know nobody
        shutil.rmtree(self.crew.directory, ignore_errors=True)
        now = time.monotonic()
        self.deleted.append((begin, now))
        self._healed = now + (_FORGETS if asleep else _HEALS)
        self.say(f"the directory is deleted; {len(asleep)} sleep for up to {longest:.2f} s")
        if asleep:
            self.happened["the directory is deleted while somebody is stopped"] += 1
        return True
