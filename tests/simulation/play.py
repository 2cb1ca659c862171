"""Scenes: a world whose steps are chosen by a test, with verbs for what takes many of them."""

from __future__ import annotations

from collections.abc import Iterable

from tests.simulation.app import Sub, Waiting
from tests.simulation.process import Process
from tests.simulation.schedule import come_to_rest, possible, user_work
from tests.simulation.world import PATTERNS, TOPICS, Settings, World

__all__ = ["Scene"]

_MANY = 200


class Scene:
    """A world, and who of its members can do nothing at the moment."""

    def __init__(self, members: int, settings: Settings | None = None) -> None:
        self.world = World((settings or Settings())._replace(members=members), traced=True)
        self.held: set[int] = set()
        """Whom nothing reaches, and who does nothing: all that concerns them is left out."""

    def __getitem__(self, index: int) -> Process:
        return self.world.processes[index]

    def do(self, name: str, *arguments: object) -> None:
        """Take one step, which has to be possible."""
        assert self.world.take((name, *arguments)), (name, *arguments)

    def run(self, *, works: bool = False) -> None:
        """Let everybody but the held take all steps there are; no time passes."""
        for _ in range(_MANY):
            steps = [*possible(self.world), *(user_work(self.world) if works else ())]
            steps = [step for step in steps if step[1] not in self.held]
            if not steps:
                return
            for step in steps:
                self.world.take((*step, 100) if step[0] in {"read", "hear"} else step)
        raise AssertionError("this goes on for ever")

    def hosted_by(self, index: int) -> None:
        """This one is elected, and all others connect."""
        self.do("advance", index)
        assert self[index].hosts
        self.run()

    def die(self, index: int) -> None:
        self.do("crash", index)
        self.do("free", index)

    def elect(self, index: int) -> None:
        """This one finds out first that the host is gone."""
        while self[index].connection is not None:
            self.do("read", index, 100)
        self.do("advance", index)
        assert self[index].hosts

    def hold(self, *indices: int) -> None:
        self.held.update(indices)

    def let_go(self, indices: Iterable[int] | None = None) -> None:
        self.held -= set(self.held if indices is None else indices)
        self.run()

    def subscribe(self, index: int, pattern: str = "a.x", kind: int = 0, prefetch: int = 8) -> Sub:
        """``kind`` as in ``World.do_subscribe()``."""
        self.do("subscribe", index, PATTERNS.index(pattern), kind, prefetch)
        return self[index].subs[-1]

    def publish(self, index: int, topic: str = "a.x", count: int = 1) -> None:
        self.do("publish", index, TOPICS.index(topic), count)

    def request(self, index: int, topic: str = "a.x", to: int = -1) -> Waiting:
        self.do("request", index, TOPICS.index(topic), to, 0)
        return self[index].requests[-1]

    def finish(self, sub: Sub, *, done: bool = True) -> None:
        """The first job in hand is done, or the first request answered."""
        process = sub.process
        self.do("finish", process.index, process.subs.index(sub), 0, int(done))

    def numbers(self, sub: Sub, publisher: int) -> list[int]:
        """What it got of a publisher."""
        return sorted(seq for sender, seq in sub.got if sender == self[publisher].id)

    def rest(self) -> None:
        """Everybody runs until nothing is left to do; then everything must hold."""
        self.held.clear()
        come_to_rest(self.world)
