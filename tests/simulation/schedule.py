"""Schedules: which step comes next. By a seed; and, at the end, until all has come to rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import NamedTuple

from open_channel.bus.host import PATIENCE
from tests.simulation.invariants import Violation
from tests.simulation.trace import minimise
from tests.simulation.world import PATTERNS, TOPICS, Settings, Step, World

__all__ = ["Result", "come_to_rest", "possible", "replay", "run", "settings_of", "shorten"]

_ROUNDS = 2000
_DURATIONS = (0.03, 0.3, 1.1, 3.2, 6.5)


class Result(NamedTuple):
    """What became of one schedule."""

    seed: int
    steps: list[Step]
    takeovers: int
    failure: str
    """What did not hold; empty when all did."""


def settings_of(seed: int) -> Settings:
    """What the world of a seed is like."""
    choose = Random(f"{seed} settings").choice
    feed, patience = choose(((100, 0), (1024 * 1024, PATIENCE)))
    return Settings(
        members=choose((2, 3, 3, 4, 5)),
        room=choose((2, 8, 64)),
        lag=choose((1.0, 1.0, 1000.0)),
        grace=choose((6.0, 6.0, 1000.0)),
        queue=choose((400, 64 * 1024)),
        feed=feed,
        patience=patience,
        window=choose((1024, 64 * 1024)),
    )


# --- what may come next ---------------------------------------------------------------------------


def possible(world: World) -> Iterator[Step]:
    """What the event loops of those who run would do, each with a count to be chosen."""
    for index, process in enumerate(world.processes):
        recent = process.connections[-3:]
        for age, connection in enumerate(reversed(recent)):
            hosting = connection.hosting
            if hosting.hosting and hosting.process.awake:
                if connection.up.readable:
                    yield "hear", index, age
                if connection.down.movable:
                    yield "drain", index, age
        if process.leaving and process.present and process.paused_at is None:
            yield "depart", index
        if not process.alive:
            if process.present and not process.leaving:
                yield "free", index
        elif process.paused_at is None:
            yield from _loop(world, index)
        if process.awake and process.hosts:
            yield from _hosting(world, index)


def _loop(world: World, index: int) -> Iterator[Step]:
    process = world.processes[index]
    connection = process.connection
    if connection is None:
        if world.can_advance(process):
            yield "advance", index
    else:
        if connection.down.readable:
            yield "read", index
        if connection.up.movable:
            yield "writable", index
        if world.silent(process):
            yield "watch", index
    if process.scheduled:
        yield "flush", index
    if process.debts_due is not None and process.debts_due <= world.now:
        yield "settle", index


def _hosting(world: World, index: int) -> Iterator[Step]:
    hosting = world.processes[index].hosting
    assert hosting is not None
    if hosting.due:
        yield "tick", index
    if world.holder is not hosting:
        yield "beat", index
    elif any(not world.is_present(member) for member in hosting.missing):
        yield "look", index


def user_work(world: World) -> Iterator[Step]:
    """What users have before them."""
    for index, process in enumerate(world.processes):
        if process.runs:
            for which, sub in enumerate(process.subs):
                if sub.hands:
                    yield "finish", index, which, 0, 1
                if sub.untaken:
                    yield "took", index, which


class _Chance:
    """The dice of one seed, loaded: each seed prefers other steps."""

    def __init__(self, seed: int, world: World) -> None:
        self.random = random = Random(seed)
        self.world = world
        weigh = random.choice
        self.weights = {
            "loop": 60,
            "work": 10,
            "publish": weigh((2, 8)),
            "subscribe": weigh((1, 3)),
            "unsubscribe": weigh((0, 0, 1, 2)),
            "request": weigh((0, 0, 2, 4)),
            "cancel": weigh((0, 0, 0.5)),
            "time": weigh((0.3, 1, 4)),
            "crash": weigh((0, 0.4, 1)),
            "pause": weigh((0, 0.5, 1.5)),
            "resume": weigh((0.5, 2)),
            "cut": weigh((0, 0.5, 2)),
            "join": weigh((0, 0.3, 1)),
            "leave": weigh((0, 0.3)),
        }
        self.kinds = weigh(((0,), (0, 1), (0, 3), (2,), (3, 4), (0, 1, 2, 3, 4)))
        self.names = list(self.weights)
        self.shares = list(self.weights.values())

    def next(self) -> Step | None:
        name = self.random.choices(self.names, self.shares)[0]
        if name in {"loop", "work"}:
            steps = list(possible(self.world) if name == "loop" else user_work(self.world))
            return self._counted(self.random.choice(steps)) if steps else None
        choose, count = self.random.randrange, len(self.world.processes)
        index = choose(count)
        match name:
            case "publish":
                return name, index, choose(len(TOPICS)), self.random.choice((1, 1, 1, 3))
            case "subscribe":
                kind = self.random.choice(self.kinds)
                return name, index, choose(len(PATTERNS)), kind, self.random.choice((1, 1, 2, 8))
            case "unsubscribe" | "cancel":
                return name, index, choose(4)
            case "request":
                to = choose(count) if self.random.random() < 0.2 else -1
                return name, index, choose(len(TOPICS)), to, int(self.random.random() < 0.2)
            case "time":
                return name, self.random.choice(_DURATIONS)
            case "cut":
                return name, index, choose(6), choose(6)
            case "crash":
                return self._crash(index)
            case "join":
                return (name,) if count < 8 else None
            case "resume":
                paused = [i for i, p in enumerate(self.world.processes) if p.paused_at is not None]
                return (name, self.random.choice(paused)) if paused else None
            case _:
                return name, index

    def _crash(self, index: int) -> Step | None:
        alive = [process for process in self.world.processes if process.alive]
        if len(alive) <= 2:
            return None
        holder = self.world.holder
        if holder is not None and self.random.random() < 0.5:
            index = holder.process.index
        return "crash", index

    def _counted(self, step: Step) -> Step:
        """How much is read; now and then a job is rejected."""
        if step[0] in {"read", "hear"}:
            return *step, self.random.choice((1, 1, 2, 5, 100))
        if step[0] == "finish" and self.random.random() < 0.2:
            return *step[:-1], 0
        return step


# --- running --------------------------------------------------------------------------------------


def come_to_rest(world: World) -> None:
    """Everybody runs, nothing breaks any more: take steps until none is left, then look."""
    for index, process in enumerate(world.processes):
        if process.paused_at is not None:
            world.take(("resume", index))
    for _ in range(_ROUNDS):
        steps = [*possible(world), *user_work(world)]
        for step in steps:
            world.take((*step, 100) if step[0] in {"read", "hear"} else step)
        if not steps and not _pass_time(world):
            world.checks.at_rest()
            return
    raise Violation(f"it does not come to rest: {list(possible(world))}")


def _pass_time(world: World) -> bool:
    """Let time pass until something is due, if there is something."""
    due = [process.debts_due for process in world.processes if process.runs]
    if world.holder is not None:
        due.append(world.holder.broker.deadline)
    times = [when for when in due if when is not None]
    if not times:
        return False
    world.take(("time", max(0.0, min(times) - world.now) + 0.001))
    return True


def run(seed: int, length: int = 250) -> Result:
    """One random schedule."""
    world = World(settings_of(seed))
    chance = _Chance(seed, world)
    steps: list[Step] = []
    failure = ""
    try:
        for _ in range(2 * length):
            step = chance.next()
            if step is not None:
                steps.append(step)
                world.take(step)
            if len(steps) >= length:
                break
        come_to_rest(world)
    except Violation as violation:
        failure = str(violation)
    return Result(seed, steps, world.takeovers, failure)


def replay(settings: Settings, steps: Iterable[Step], *, traced: bool = False) -> tuple[World, str]:
    """The same steps again; what became of it, and what did not hold."""
    world = World(settings, traced=traced)
    try:
        for step in steps:
            world.take(step)
        come_to_rest(world)
    except Violation as violation:
        return world, str(violation)
    return world, ""


def shorten(result: Result) -> list[Step]:
    """A short schedule that fails in the same way."""
    settings = settings_of(result.seed)
    kind = _kind(result.failure)
    return minimise(result.steps, lambda steps: _kind(replay(settings, steps)[1]) == kind)


def _kind(failure: str) -> str:
    """What failed, without the names."""
    words = [
        word for word in failure.split() if not any(sign in word for sign in "#.()[]{}0123456789")
    ]
    return " ".join(words[:8])
