"""Run real processes of one channel through kills, stops, forks and whatever else can befall them.

    python tools/chaos.py --seconds 60 --seed 1

The seed chooses what happens, not when exactly. What the processes wrote down decides. The exit
code is 1 when something does not hold; what was done and written down around it is shown then.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.chaos.report import report
from tests.chaos.run import chaos


def main() -> int:
    """Run, and print the table; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things happen")
    parser.add_argument("--seed", type=int, default=0, help="what happens; 0: any")
    parser.add_argument("--verbose", action="store_true", help="tell what happens when it does")
    parser.add_argument("--ledgers", type=Path, help="a folder in which the ledgers are left")
    options = parser.parse_args()
    if options.ledgers:
        options.ledgers.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    begin = time.monotonic()

    def tell(text: str) -> None:
        if options.verbose:
            print(f"{time.monotonic() - begin:9.3f}    {text}", flush=True)

    seed = options.seed or time.time_ns() % (1 << 32)
    print(f"seed {seed}", flush=True)
    result = chaos(seed, options.seconds, tell, options.ledgers)
    print(*report(result), sep="\n")
    return 1 if result.violations else 0


if __name__ == "__main__":
    sys.exit(main())
