"""Fuzz the library with what a hostile peer may say.

    python tools/fuzz.py --target brokers --inputs 100000 --seed 7

Without ``--target`` it goes through all of them. The same seed gives the same cases. The exit
code is 1 when a case fails; it is then shown as short as it can be made, and ``--replay`` plays it
again.
"""

from __future__ import annotations

import argparse
import ast
import multiprocessing
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.fuzz.engine import Failure, Result, fuzz, play, shorten
from tests.fuzz.real import NAME, fuzz_real
from tests.fuzz.targets import TARGETS, make

_SHOWN = 3


def show(result: Result) -> None:
    """Print a failing case, as short as it can be made."""
    assert result.failure is not None
    print(f"\n{result.target}, seed {result.seed}, case {result.failure.case}:\n")
    print(result.failure.error, flush=True)
    if result.target == NAME:
        return  # the processes are gone; the same seed attacks others in the same way
    short = shorten(make(result.target), result.failure)
    print(f"{len(short.steps)} of {len(result.failure.steps)} steps are enough:\n")
    print("[")
    for step in short.steps:
        print(f"    {step!r},")
    print("]")
    print(f"\nsave that, and play it again: --target {result.target} --replay FILE\n")


def replay(name: str, path: str) -> int:
    """Play one case that was kept in a file."""
    steps = ast.literal_eval(Path(path).read_text(encoding="utf-8"))
    failure: Failure | None = play(make(name), steps)
    print(failure.error if failure else "it holds")
    return int(failure is not None)


def _run(work: tuple[str, int, int, float]) -> Result:
    name, seed, inputs, seconds = work
    if name == NAME:
        return fuzz_real(seed, inputs=inputs, seconds=seconds)
    return fuzz(make(name), seed, inputs=inputs, seconds=seconds)


def main() -> int:
    """Fuzz; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    every = [*TARGETS, NAME]
    parser.add_argument("--target", action="append", choices=every, help="what to fuzz")
    parser.add_argument("--inputs", type=int, default=0, help="how many inputs for each")
    parser.add_argument("--seconds", type=float, default=0.0, help="how long for each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes, each with a seed of its own"
    )
    parser.add_argument("--replay", metavar="FILE", help="play a case that was printed")
    options = parser.parse_args()
    names = options.target or every
    if options.replay:
        return replay(names[0], options.replay)
    seconds = options.seconds if options.seconds or options.inputs else 10.0
    work = [
        (name, options.seed + job, options.inputs // options.jobs, seconds)
        for name in names
        for job in range(options.jobs)
    ]
    results = []
    print(f"{'target':<12}{'seed':>6}{'cases':>10}{'inputs':>12}{'a second':>10}{'refused':>10}")
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for result in pool.imap(_run, work):
            results.append(result)
            print(
                f"{result.target:<12}{result.seed:>6}{result.cases:>10,}{result.inputs:>12,}"
                f"{result.rate:>10,.0f}{result.refused.total():>10,}",
                "FAILED" if result.failure else "",
                flush=True,
            )
    failed = [result for result in results if result.failure]
    for result in failed[:_SHOWN]:
        show(result)
    inputs = sum(result.inputs for result in results)
    print(f"{inputs:,} inputs in {sum(r.seconds for r in results):.0f} s, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
