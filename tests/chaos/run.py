"""One chaos run: begin, let things happen, come to rest, end in order, judge."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.chaos.crew import Actor, Crew
from tests.chaos.director import LIMITS, Director
from tests.chaos.evidence import Run, Violation, Witness
from tests.chaos.judge_messages import judge_messages
from tests.chaos.judge_rest import (
    judge_lingering,
    judge_listeners,
    judge_locks,
    judge_processes,
    judge_vacancies,
)
from tests.chaos.judge_volume import judge_volume
from tests.chaos.judge_work import judge_jobs, judge_requests

__all__ = ["Result", "chaos"]

_END = 60.0  # seconds in which what is told to end must have ended
_GROWTH = 64 * 1024 * 1024  # bytes that a process may grow by, above what it had when it was open
_YOUNG = {"socket": 15.0, "m": 0.0, "t": 65.0}
"""Seconds for which what a dead process left may stay, by kind; lock files stay for good."""
_SPEAKERS = {"publisher", "requester", "talker", "listener", "locker", "leader"}


class Result(NamedTuple):
    """What a run came to."""

    seed: int
    seconds: float
    run: Run
    violations: list[Violation]
    happened: dict[str, int]
    log: list[tuple[float, str]]
    growth: int
    """Bytes, of the process that grew most of those who stayed."""
    files: int
    """Descriptors, of the process that had most open when all was calm."""


def chaos(
    seed: int,
    seconds: float,
    tell: Callable[[str], None] = lambda _: None,
    ledgers: Path | None = None,
) -> Result:
    """Run for so long, and what it takes to end; whatever is wrong stands in the result.

    ``tell`` gets what happens, when it does. ``ledgers`` is a folder where the ledgers stay.
    """
    with (
        tempfile.TemporaryDirectory(prefix="oc-chaos-", dir="/tmp") as folder,
        tempfile.TemporaryDirectory(prefix="oc-", dir="/tmp", ignore_cleanup_errors=True) as place,
    ):
        crew = Crew(Path(place), ledgers or Path(folder), LIMITS)
        try:
            return _Play(crew, seed, seconds, tell).result()
        finally:
            crew.end()


class _Play:
    def __init__(self, crew: Crew, seed: int, seconds: float, tell: Callable[[str], None]) -> None:
        self.crew = crew
        self.seed = seed
        self.seconds = seconds
        self.director = Director(crew, seed, tell)
        self.violations: list[Violation] = []
        self.growth = self.files = 0

    def result(self) -> Result:
        director = self.director
        director.begin()
        begin = time.monotonic()
        memory = {actor: actor.memory() for actor in self.crew.actors if actor.stays}
        director.run(self.seconds)
        director.wake_all()
        calm = time.monotonic()
        director.say("calm")
        self._come_to_rest(memory)
        self._leave()
        run = Run(
            [self._witness(actor) for actor in self.crew.actors],
            LIMITS["lag"],
            begin,
            calm,
            director.deleted,
        )
        errors = {a.name: a.errors.read_text(errors="replace") for a in self.crew.actors}
        for judge in (
            judge_messages,
            judge_jobs,
            judge_requests,
            judge_locks,
            judge_vacancies,
            judge_listeners,
            judge_lingering,
        ):
            self.violations += judge(run)
        self.violations += judge_processes(run, errors)
        self.violations += judge_volume(run, director.happened, self.seconds)
        return Result(
            self.seed,
            self.seconds,
            run,
            sorted(self.violations, key=lambda violation: violation.at),
            dict(director.happened),
            director.log,
            self.growth,
            self.files,
        )

    # --- the end ---------------------------------------------------------------------------

    def _await(
        self, kind: str, what: str, actors: list[Actor], ended: Callable[[Actor], bool]
    ) -> None:
        """Wait until all have ended what they were told to end; note who has not."""
        self.director.say(f"waiting for {len(actors)}: {what}")
        deadline = time.monotonic() + _END
        left = list(actors)
        while (left := [actor for actor in left if not ended(actor)]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.01)
        for actor in left:
            text = f"{actor}: not within {_END:.0f} s: {what}"
            self.violations.append(Violation(kind, text, deadline, (actor.name,)))

    def _come_to_rest(self, memory: dict[Actor, int]) -> None:
        crew = self.crew
        going = [a for a in crew.actors if not a.present and a.killed is None]
        going += [a for a in crew.present if a.config.lasts]
        going = [a for a in going if not self._never_forked(a)]
        self._await("hung", "it leaves", going, _has_left)
        staying = [a for a in crew.present if not a.config.lasts]
        for actor in staying:
            if not actor.alive:
                text = f"{actor} has died by itself"
                self.violations.append(Violation("error", text, time.monotonic(), (actor.name,)))
                actor.killed = time.monotonic()
        staying = [a for a in staying if a.killed is None]
        self._settle(staying)
        speakers = [a for a in staying if a.role in _SPEAKERS]
        for actor in speakers:
            actor.do("finish")
        self._await("hung", "it finishes", speakers, _has_finished)
        others = [a for a in staying if a.role not in _SPEAKERS]
        for actor in others:
            actor.do("finish")
        self._await("hung", "it finishes", others, _has_finished)
        self.files = max((actor.open_files() for actor in staying), default=0)
        for actor, before in memory.items():
            growth = actor.memory() - before
            self.growth = max(self.growth, growth)
            if growth > _GROWTH:
                text = f"{actor} grew by {growth >> 20} MiB"
                at = time.monotonic()
                self.violations.append(Violation("memory", text, at, (actor.name,)))

    def _never_forked(self, actor: Actor) -> bool:
        """Whether its parent has died before it could fork it."""
        parent = actor.parent
        return parent is not None and not parent.alive and not actor.ledger.of("born", "in child")

    def _settle(self, staying: list[Actor]) -> None:
        """All that live see each other, and one host."""
        self._await("hung", "it opens the channel", staying, lambda actor: bool(actor.id))
        pids = sorted(actor.pid for actor in staying)
        deadline = time.monotonic() + _END
        seen: dict[Actor, tuple[list[int], int]] = {}
        while time.monotonic() < deadline:
            try:
                seen = {actor: self.crew.state(actor, 20.0) for actor in staying}
            except AssertionError as error:
                self.violations.append(Violation("hung", str(error), time.monotonic(), ()))
                return
            hosts = {host for _, host in seen.values()}
            if len(hosts) == 1 and hosts <= set(pids) and all(m == pids for m, _ in seen.values()):
                return
            time.sleep(0.05)
        odd = {a.name: (sorted({*m} ^ {*pids}), host) for a, (m, host) in seen.items()}
        text = f"they do not agree on who is there: {odd}"
        self.violations.append(Violation("error", text, time.monotonic(), ()))

    def _leave(self) -> None:
        staying = [a for a in self.crew.present if not a.config.lasts and a.alive]
        self.director.chance.shuffle(staying)
        for actor in staying:
            actor.leave()
        self._await("hung", "it leaves", staying, _has_left)
        # Nobody removes what is so young that its owner may be about to use it: the next one does.
        self._await("hung", "it is the last one", [self.director.last()], _has_left)
        for path in sorted(self.crew.directory.iterdir()):
            kind = "socket" if path.is_socket() else path.name.split(".")[1]
            age = time.time() - path.lstat().st_mtime
            if age > _YOUNG.get(kind, float("inf")):
                at, text = time.monotonic(), f"{path.name}, {age:.1f} s old"
                self.violations.append(Violation("file", text, at, ()))

    def _witness(self, actor: Actor) -> Witness:
        actor.ledger.of()
        notes = actor.ledger.entries
        outages = [*actor.stops, *((begin, end) for begin, end, _ in notes.get("late", []))]
        return Witness(
            actor.name,
            actor.role,
            notes,
            actor.stays,
            actor.killed,
            actor.config.options,
            outages,
        )


def _has_left(actor: Actor) -> bool:
    return bool(actor.ledger.of("leaks"))


def _has_finished(actor: Actor) -> bool:
    return bool(actor.ledger.of("finished"))
