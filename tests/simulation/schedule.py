"""Schedules: which step comes next. By a seed; and, at the end, until all has come to rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from open_channel.bus.host import PATIENCE
from tests.simulation.trace import minimise
from tests.simulation.violation import Violation
from tests.simulation.world import PATTERNS, TOPICS, Settings, Step, World

if TYPE_CHECKING:
    from tests.simulation.hosting import Hosting
    from tests.simulation.process import Process

__all__ = ["Result", "come_to_rest", "possible", "replay", "run", "settings_of", "shorten"]

_ROUNDS = 2000
_DURATIONS = (0.03, 0.3, 1.1, 3.2, 6.5)
_READS = frozenset({"hear", "read"})
_AMOUNTS = (1, 1, 2, 5, 100)
_IN_A_ROW = 3  # messages to one topic; more go to all topics in turn
_SIZES = (*(1,) * 7, 400)  # what is sent again does not all fit a small window


class Result(NamedTuple):
    """What became of one schedule."""

    seed: int
    steps: list[Step]
    takeovers: int
    failure: str
    """What did not hold; empty when all did."""
    settings: Settings = Settings()
    """What the world was like; a conversation has none."""


def settings_of(seed: int) -> Settings:
    """What the world of a seed is like."""
    choose = Random(f"{seed} settings").choice
    feed, patience = choose(((100, 0), (1024 * 1024, PATIENCE)))
    return Settings(
        members=choose((2, 3, 3, 4, 5)),
        room=choose((1, 2, 8, 64)),
        lag=choose((1.0, 1.0, 1000.0)),
        grace=choose((6.0, 6.0, 1000.0)),
        queue=choose((150, 64 * 1024)),
        feed=feed,
        patience=patience,
        window=choose((1024, 64 * 1024)),
        size=choose(_SIZES),
    )


# --- what may come next ---------------------------------------------------------------------------


def possible(world: World) -> list[Step]:
    """What the event loops of those who run would do; reading still lacks how much is read."""
    steps: list[Step] = []
    for process in world.processes:
        _add_steps(world, process, steps)
    return steps


def _add_steps(world: World, process: Process, steps: list[Step]) -> None:
    """... as far as it concerns one process. This is called for every step that is chosen."""
    index = process.index
    age = len(process.connections)
    for connection in process.connections:
        age -= 1
        hosting = connection.hosting
        if hosting.hosting and hosting.process.awake:
            up, down = connection.up, connection.down
            if not up.broken and (up.kernel or up.closed):
                steps.append(("hear", index, age))
            if down.buffer and down.movable:
                steps.append(("drain", index, age))
    if process.awake:
        if process.alive:
            _add_loop(world, process, index, steps)
        if (mine := process.hosting) is not None and mine.hosting:
            _add_hosting(world, mine, index, steps)
    if not process.alive and process.present and process.paused_at is None:
        steps.append(("depart" if process.leaving else "free", index))


def _add_loop(world: World, process: Process, index: int, steps: list[Step]) -> None:
    connection = process.connection
    if connection is None:
        if world.can_advance(process):
            steps.append(("advance", index))
    else:
        up, down = connection.up, connection.down
        if not down.broken and (down.kernel or down.closed):
            steps.append(("read", index))
        elif connection.hosting.process.paused_at is not None and world.silent(process):
            steps.append(("watch", index))
        if up.buffer and up.movable:
            steps.append(("writable", index))
    if process.scheduled:
        steps.append(("flush", index))
    if process.debts_due is not None and process.debts_due <= world.now:
        steps.append(("settle", index))


def _add_hosting(world: World, hosting: Hosting, index: int, steps: list[Step]) -> None:
    if hosting.due:
        steps.append(("tick", index))
    if world.holder is not hosting:
        steps.append(("beat", index))
    elif world.freed and any(not world.is_present(member) for member in hosting.missing):
        steps.append(("look", index))


def user_work(world: World) -> list[Step]:
    """What users have before them."""
    steps: list[Step] = []
    for process in world.processes:
        if process.alive and process.paused_at is None:
            for which, sub in enumerate(process.subs):
                if sub.hands:
                    steps.append(("finish", process.index, which, 0, 1))
                if sub.untaken:
                    steps.append(("took", process.index, which))
    return steps


class _Chance:
    """The dice of one seed, loaded: each seed prefers other steps."""

    def __init__(self, seed: int, world: World, tries: int) -> None:
        self.random = random = Random(seed)
        self.draw = random.random
        self.world = world
        weigh = random.choice
        weights = {
            "loop": 60,
            "work": 10,
            "publish": weigh((2, 8)),
            "subscribe": weigh((1, 3)),
            "unsubscribe": weigh((0, 0, 1, 2)),
            "request": weigh((0, 0, 2, 4)),
            "cancel": weigh((0, 0, 2)),
            "confirm": weigh((0, 0, 0.5)),
            "time": weigh((0.3, 1, 4)),
            "beat": weigh((0, 0.3)),
            "crash": weigh((0, 0.4, 1)),
            "pause": weigh((0, 0.5, 1.5)),
            "resume": weigh((0.5, 2)),
            "cut": weigh((0, 0.5, 2)),
            "join": weigh((0, 0.3, 1)),
            "leave": weigh((0, 0, 0.3, 0.6)),
        }
        self.kinds = weigh(((0,), (0, 1), (0, 3), (2,), (3, 4), (0, 1, 2, 3, 4)))
        self.names = random.choices(list(weights), list(weights.values()), k=tries)

    def steps(self) -> Iterator[Step]:
        """One after the other; each depends on what has become of the world until then."""
        for name in self.names:
            step = self._loop() if name == "loop" else self._other(name)
            if step is not None:
                yield step

    def _below(self, count: int) -> int:
        return int(self.draw() * count)

    def _loop(self) -> Step | None:
        """Somebody's next step: of the first who has one, from a random one on."""
        world, draw = self.world, self.draw
        processes = world.processes
        count = len(processes)
        first = int(draw() * count)
        steps: list[Step] = []
        for index in range(first - count, first):  # those below 0 count from the end
            _add_steps(world, processes[index], steps)
            if steps:
                step = steps[int(draw() * len(steps))]
                if step[0] in _READS:
                    return *step, _AMOUNTS[int(draw() * len(_AMOUNTS))]
                return step
        return None

    def _other(self, name: str) -> Step | None:
        below, count = self._below, len(self.world.processes)
        index = below(count)
        match name:
            case "work":
                return self._work()
            case "publish":
                topic, count = below(len(TOPICS)), (1, 1, 1, 3, 6)[below(5)]
                return "mix" if count > _IN_A_ROW else name, index, topic, count
            case "subscribe":
                kind = self.kinds[below(len(self.kinds))]
                return name, index, below(len(PATTERNS)), kind, (1, 1, 2, 8)[below(4)]
            case "unsubscribe":
                return name, index, below(4), below(2)
            case "cancel":
                return name, index, below(4)
            case "request":
                to = below(count) if self.draw() < 0.3 else -1
                return name, index, below(len(TOPICS)), to, int(self.draw() < 0.3)
            case "time":
                return name, _DURATIONS[below(len(_DURATIONS))]
            case "cut":
                return name, index, below(6), below(6)
            case "crash":
                return self._crash(index)
            case "join":
                return (name,) if count < 8 else None
            case "resume":
                paused = [i for i, p in enumerate(self.world.processes) if p.paused_at is not None]
                return (name, paused[below(len(paused))]) if paused else None
            case "beat":
                holder = self.world.holder
                return (name, holder.process.index) if holder is not None else None
            case _:
                return name, index

    def _work(self) -> Step | None:
        """A user goes on; now and then a job is rejected."""
        steps = user_work(self.world)
        if not steps:
            return None
        step = steps[self._below(len(steps))]
        if step[0] == "finish" and self.draw() < 0.2:
            return *step[:-1], 0
        return step

    def _crash(self, index: int) -> Step | None:
        alive = sum(process.alive for process in self.world.processes)
        if alive <= 2:
            return None
        holder = self.world.holder
        if holder is not None and self.draw() < 0.5:
            index = holder.process.index
        return "crash", index


# --- running --------------------------------------------------------------------------------------


def come_to_rest(world: World) -> None:
    """Everybody runs, nothing breaks any more: take steps until none is left, then look."""
    for index, process in enumerate(world.processes):
        if process.paused_at is not None:
            world.take(("resume", index))
    for _ in range(_ROUNDS):
        steps = [*possible(world), *user_work(world)]
        for step in steps:
            world.take((*step, 100) if step[0] in _READS else step)
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


def run(seed: int, length: int = 250, *, wipes: int = 0) -> Result:
    """One random schedule; the directory is deleted so many times, and no grace ends then."""
    settings = settings_of(seed)
    if wipes:
        settings = settings._replace(grace=1000.0)
    world = World(settings)
    wiped = Random(f"{seed} wipes").sample(range(1, length), wipes)
    steps: list[Step] = []
    failure = ""
    try:
        for step in _Chance(seed, world, 2 * length).steps():
            steps.append(step)
            world.take(step)
            if len(steps) in wiped:
                steps.append(("wipe",))
                world.take(steps[-1])
            if len(steps) >= length:
                break
        come_to_rest(world)
    except Violation as violation:
        failure = str(violation)
    return Result(seed, steps, world.takeovers, failure, settings)


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
    kind = _kind(result.failure)
    return minimise(result.steps, lambda steps: _kind(replay(result.settings, steps)[1]) == kind)


def _kind(failure: str) -> str:
    """What failed, without the names."""
    words = [
        word for word in failure.split() if not any(sign in word for sign in "#.()[]{}0123456789")
    ]
    return " ".join(words[:8])
