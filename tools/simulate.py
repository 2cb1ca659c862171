"""Run the protocol's core through random schedules of deaths, stops, cuts and delays.

    python tools/simulate.py --seeds 1000 --first 1
    python tools/simulate.py --seeds 1000 --conversations

Each seed is one schedule, and the same one each time: of the bus, or of conversations with
listeners. The exit code is 1 when something does not hold, and the first such seed is then shown as
the shortest schedule that still fails; or when a step was taken that is in no table. What was
taken of each table is printed, and what was not.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation import talk_schedule
from tests.simulation.coverage import forget, steps_taken, watch
from tests.simulation.schedule import Result, replay, run, settings_of, shorten
from tests.simulation.tables import TABLES, Step

_SHOWN = 10
_PIECE = 25  # schedules that one process runs before it tells of them


class _Piece(NamedTuple):
    """What became of some schedules."""

    schedules: int
    steps: int
    takeovers: int
    failed: list[Result]
    taken: Counter[Step]
    firsts: dict[Step, int]
    """{a step: the first seed that took it}."""


def show(result: Result) -> None:
    """Print a failing schedule, as short as it can be made, with all that is said in it."""
    print(f"\nseed {result.seed}: {result.failure}")
    settings = settings_of(result.seed)
    steps = shorten(result)
    world, failure = replay(settings, steps, traced=True)
    print(f"{len(steps)} of {len(result.steps)} steps are enough, with {settings}:\n")
    for step in steps:
        print(f"  {step}")
    print("\nall of it:\n")
    print(*world.lines, sep="\n")
    print(f"\n{failure}")


def show_talk(result: Result) -> None:
    """Print a failing conversation."""
    print(f"\nseed {result.seed}: {result.failure}\n")
    for step in result.steps:
        print(f"  {step}")


def run_piece(seeds: range, *, length: int, conversations: bool) -> _Piece:
    """Run some schedules."""
    steps = takeovers = 0
    failed: list[Result] = []
    total: Counter[Step] = Counter()
    firsts: dict[Step, int] = {}
    for seed in seeds:
        forget()
        result = talk_schedule.run(seed) if conversations else run(seed, length)
        steps += len(result.steps)
        takeovers += result.takeovers
        if result.failure:
            failed.append(result)
        for step, count in steps_taken().items():
            total[step] += count
            firsts.setdefault(step, seed)
    gc.collect()  # worlds are full of cycles; looking for them all the time costs a tenth
    return _Piece(len(seeds), steps, takeovers, failed, total, firsts)


def report_tables(taken: Counter[Step], firsts: dict[Step, int], *, every: bool) -> None:
    """Print how much of each table was taken, and what was not."""
    tables: dict[str, list[Step]] = {}
    for step in sorted(TABLES):
        tables.setdefault(step[0], []).append(step)
    for name, steps in tables.items():
        missing = [step for step in steps if step not in taken]
        print(f"{name}: {len(steps) - len(missing)} of {len(steps)} steps taken")
        for step in missing:
            print(f"    never: {', '.join(step[1:])}")
        for step in steps if every else ():
            if step in taken:
                seed = firsts[step]
                print(f"    {taken[step]} times, first by {seed}: {', '.join(step[1:])}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--first", type=int, default=1, help="the seed of the first")
    parser.add_argument("--steps", type=int, default=250, help="random steps of each")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    parser.add_argument("--conversations", action="store_true", help="instead of the bus")
    parser.add_argument("--every-step", action="store_true", help="how often each was taken")
    return parser.parse_args()


def main() -> int:
    """Run the schedules; return the exit status."""
    options = _options()
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    pieces = [seeds[start : start + _PIECE] for start in range(0, len(seeds), _PIECE)]
    work = partial(run_piece, length=options.steps, conversations=options.conversations)
    count = steps = takeovers = 0
    failed: list[Result] = []
    taken: Counter[Step] = Counter()
    firsts: dict[Step, int] = {}
    with multiprocessing.Pool(options.jobs, _begin) as pool:
        for piece in pool.imap(work, pieces):
            count += piece.schedules
            steps += piece.steps
            takeovers += piece.takeovers
            failed += piece.failed
            taken += piece.taken
            firsts = {**piece.firsts, **firsts}
            if failed and not options.all:
                break
    seconds = time.monotonic() - began
    if failed:
        shown = show_talk if options.conversations else show
        shown(min(failed, key=lambda result: len(result.steps)))
    for kind, number in Counter(result.failure for result in failed).most_common(_SHOWN):
        seed = next(result.seed for result in failed if result.failure == kind)
        print(f"{number} times, first seed {seed}: {kind}")
    report_tables(taken, firsts, every=options.every_step)
    unknown = sorted(taken.keys() - TABLES)
    for step in unknown:
        print(f"in no table, first by {firsts[step]}: {', '.join(step)}")
    print(
        f"{count} schedules, {count / seconds:.0f} a second: {steps} steps, "
        f"{takeovers} takeovers, {len(taken.keys() & TABLES)} of {len(TABLES)} steps of the "
        f"tables taken, {len(failed)} failed"
    )
    return 1 if failed or unknown else 0


def _begin() -> None:
    watch()
    gc.disable()
    gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
