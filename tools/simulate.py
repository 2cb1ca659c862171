"""Run the bus's core through random schedules of deaths, stops, cuts and delays.

    python tools/simulate.py --seeds 1000 --first 1

Each seed is one schedule, and the same one each time. The exit code is 1 when something does not
hold; the first such seed is then shown as the shortest schedule that still fails.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.simulation.schedule import Result, replay, run, settings_of, shorten

_SHOWN = 10


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


def main() -> int:
    """Run the schedules; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules")
    parser.add_argument("--first", type=int, default=1, help="the seed of the first")
    parser.add_argument("--steps", type=int, default=250, help="random steps of each")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    began = time.monotonic()
    seeds = range(options.first, options.first + options.seeds)
    work = ((seed, options.steps) for seed in seeds)
    count = steps = takeovers = 0
    failed: list[Result] = []
    with multiprocessing.Pool(options.jobs) as pool:
        for result in pool.imap(_run, work, chunksize=16):
            count += 1
            steps += len(result.steps)
            takeovers += result.takeovers
            if result.failure:
                failed.append(result)
                if not options.all:
                    break
    seconds = time.monotonic() - began
    if failed:
        show(min(failed, key=lambda result: len(result.steps)))
    for kind, number in Counter(result.failure for result in failed).most_common(_SHOWN):
        seed = next(result.seed for result in failed if result.failure == kind)
        print(f"{number} times, first seed {seed}: {kind}")
    print(
        f"{count} schedules, {count / seconds:.0f} a second: {steps} steps, "
        f"{takeovers} takeovers, {len(failed)} failed"
    )
    return 1 if failed else 0


def _run(work: tuple[int, int]) -> Result:
    return run(*work)


if __name__ == "__main__":
    sys.exit(main())
