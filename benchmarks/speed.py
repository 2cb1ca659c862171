"""Compare with the peers: measure patterns in interleaved rounds, and keep the figures as JSON.

python benchmarks/speed.py [PATTERN...] [--rounds N] [--within SECONDS] [--add] [--into FOLDER]

Each pattern has a file of its own in the folder. Without ``--add`` it is written anew, with it
rounds are added until there are N; so that a long measurement can be made in pieces. Then
``tools/draw_speed.py`` makes tables and charts of them. Linux only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from harness import HERE, machine_line
from peers import tables
from peers.plan import PATTERNS
from peers.record import Record, revision
from peers.rounds import run

FOLDER = HERE.parent / "docs" / "assets" / "speed"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    records: dict[str, Record] = {}
    missing = False
    rounds = 1 if options.quick else options.rounds
    for name in options.pattern or PATTERNS:
        pattern = PATTERNS[name]
        path = options.into / f"{name}.json"
        record = Record(name, pattern.title, pattern.varies)
        if options.add and path.exists():
            record = Record.read(path)
            if (measured := record.machine["revision"]) != (here := revision()):
                print(
                    f"{path} is of revision {measured}, this is {here}: measure anew, without --add"
                )
                return 2
        run(
            pattern,
            record,
            rounds=rounds,
            within=options.within,
            peers=options.peers,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
            keep=partial(record.write, options.into),
            quick=options.quick,
        )
        records[name] = record
        print(f"\n{tables.as_text(record)}", flush=True)
        missing |= any(not f.failed and len(f.rounds) < rounds for f in record.entries.values())
    print(f"\n{tables.goal_table(records).text()}\n\n{machine_line(record.machine)}")
    return 3 if missing else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Status 3: the time was over before all rounds were done; go on with --add."
        " Status 2: --add would mix the figures of two revisions.",
    )
    parser.add_argument("pattern", nargs="*", help=f"default: all of {', '.join(PATTERNS)}")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument(
        "--within",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="begin no round that would end later; of each pattern",
    )
    parser.add_argument("--add", action="store_true", help="add rounds to what is there")
    parser.add_argument("--into", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument(
        "--peers", nargs="+", default=[], metavar="KEY", help="only those that begin so"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few messages, one round: checks the benchmark itself"
    )
    options = parser.parse_args(arguments)
    for name in options.pattern:
        if name not in PATTERNS:
            parser.error(f"there is no pattern {name}")
    return options


if __name__ == "__main__":
    sys.exit(main())
