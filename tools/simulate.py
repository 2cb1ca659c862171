"""Run the protocol's core through random schedules of deaths, stops, cuts and delays.

    python tools/simulate.py --seeds 1000 --first 1
    python tools/simulate.py --seeds 1000 --kind conversations

Each seed is one schedule of each kind, and the same one each time: of the bus; of the bus while the
directory is deleted; and of conversations with listeners. The exit code is 1 when something does
not hold, and the first such seed is then shown as the shortest schedule that still fails; or when a
step was taken that is in no table. What was never taken of each table is printed.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation import talk_schedule
from tests.simulation.coverage import forget, steps_taken, watch
from tests.simulation.schedule import Result, replay, run, shorten
from tests.simulation.tables import TABLES, Step

_SHOWN = 10
_PIECE = 25  # schedules that one process runs before it tells of them

KINDS: dict[str, Callable[[int], Result]] = {
    "bus": run,
    "deletions": lambda seed: run(seed, wipes=1 + seed % 3),
    "conversations": talk_schedule.run,
}
"""What can be simulated."""


class _Work(NamedTuple):
    """Some schedules of a kind."""

    kind: str
    seeds: range


@dataclass
class _Sum:
    """What became of some schedules."""

    schedules: Counter[str] = field(default_factory=Counter)
    """{kind: how many}; so are the next two."""
    steps: Counter[str] = field(default_factory=Counter)
    takeovers: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, Result]] = field(default_factory=list)
    taken: Counter[Step] = field(default_factory=Counter)
    firsts: dict[Step, tuple[str, int]] = field(default_factory=dict)
    """{a step: the first schedule that took it}."""

    def add(self, other: _Sum) -> None:
        self.schedules += other.schedules
        self.steps += other.steps
        self.takeovers += other.takeovers
        self.failed += other.failed
        self.taken += other.taken
        self.firsts = {**other.firsts, **self.firsts}

    @property
    def unknown(self) -> list[Step]:
        """What was taken and is in no table."""
        return sorted(self.taken.keys() - TABLES)


def show(kind: str, result: Result) -> None:
    """Print a failing schedule, as short as it can be made, with all that is said in it."""
    print(f"\n{kind}, seed {result.seed}: {result.failure}")
    if kind == "conversations":
        print("", *result.steps, sep="\n  ")
        return
    steps = shorten(result)
    world, failure = replay(result.settings, steps, traced=True)
    print(f"{len(steps)} of {len(result.steps)} steps are enough, with {result.settings}:\n")
    for step in steps:
        print(f"  {step}")
    print("\nall of it:\n")
    print(*world.lines, sep="\n")
    print(f"\n{failure}")


def run_piece(work: _Work, *, every: bool) -> _Sum:
    """Run some schedules."""
    done = _Sum()
    play = KINDS[work.kind]
    for seed in work.seeds:
        forget()
        result = play(seed)
        done.schedules[work.kind] += 1
        done.steps[work.kind] += len(result.steps)
        done.takeovers[work.kind] += result.takeovers
        if result.failure:
            done.failed.append((work.kind, result))
        for step, count in steps_taken().items():
            done.taken[step] += count
            done.firsts.setdefault(step, (work.kind, seed))
        if done.failed and not every:
            break
    gc.collect()  # worlds are full of cycles; looking for them all the time costs a tenth
    return done


def report_tables(done: _Sum, *, every: bool) -> None:
    """Print how much of each table was taken, and what was not."""
    tables: dict[str, list[Step]] = {}
    for step in sorted(TABLES):
        tables.setdefault(step[0], []).append(step)
    for name, steps in tables.items():
        missing = [step for step in steps if step not in done.taken]
        if missing or every:
            print(f"{name}: {len(steps) - len(missing)} of {len(steps)} steps taken")
        for step in missing:
            print(f"    never: {', '.join(step[1:])}")
        for step in steps if every else ():
            if step in done.taken:
                kind, seed = done.firsts[step]
                print(
                    f"    {done.taken[step]} times, first by {kind} {seed}: {', '.join(step[1:])}"
                )
    for step in done.unknown:
        kind, seed = done.firsts[step]
        print(f"in no table, first by {kind} {seed}: {', '.join(step)}")


def report(done: _Sum, seconds: float, jobs: int) -> None:
    """Print how much there was, how fast, and whether it held."""
    print(f"{'':<15}{'schedules':>12}{'steps':>15}{'takeovers':>12}{'failed':>8}")
    failed = Counter(kind for kind, _ in done.failed)
    for kind, count in done.schedules.items():
        figures = f"{count:>12,}{done.steps[kind]:>15,}{done.takeovers[kind]:>12,}"
        print(f"{kind:<15}{figures}{failed[kind]:>8}")
    total = done.schedules.total()
    print(
        f"{total:,} schedules in {seconds:.0f} s, {total / seconds:.0f} a second in {jobs} "
        f"processes; {len(done.taken.keys() & TABLES)} of {len(TABLES)} steps of the tables taken, "
        f"{len(done.unknown)} that are in none; {len(done.failed)} failed"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules of each kind")
    parser.add_argument("--first", type=int, default=1, help="the seed of the first")
    parser.add_argument("--kind", action="append", choices=KINDS, help="of all if none is given")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes to run them in"
    )
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    parser.add_argument("--every-step", action="store_true", help="how often each was taken")
    return parser.parse_args()


def _pieces(seeds: range, kinds: list[str]) -> Iterator[_Work]:
    for start in range(0, len(seeds), _PIECE):
        for kind in kinds:
            yield _Work(kind, seeds[start : start + _PIECE])


def main() -> int:
    """Run the schedules; return the exit status."""
    options = _options()
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    done = _Sum()
    with multiprocessing.Pool(options.jobs, _begin) as pool:
        pieces = _pieces(seeds, options.kind or list(KINDS))
        for piece in pool.imap(partial(run_piece, every=options.all), pieces):
            done.add(piece)
            if done.failed and not options.all:
                break
    seconds = time.monotonic() - began
    if done.failed:
        show(*min(done.failed, key=lambda failed: len(failed[1].steps)))
    for (kind, what), number in Counter(
        (kind, result.failure) for kind, result in done.failed
    ).most_common(_SHOWN):
        seed = next(r.seed for k, r in done.failed if (k, r.failure) == (kind, what))
        print(f"{number} times, first {kind} {seed}: {what}")
    report_tables(done, every=options.every_step)
    report(done, seconds, options.jobs)
    return 1 if done.failed or done.unknown else 0


def _begin() -> None:
    watch()
    gc.disable()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
