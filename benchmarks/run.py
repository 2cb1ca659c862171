"""Measure what the library promises about speed, next to baselines in the same run.

python benchmarks/run.py [echo|stream|takeover|start|idle|bus|peers|all] [--quick] [--json FILE]

Prints Markdown. Ends with status 1 when a benchmark could not be measured; a missed goal is a
figure, not a failure. Needs Python 3.11 or later and a Unix system; uvloop and strace are used
where they are installed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import BenchmarkError, Report, Settings, available_loops, machine, machine_line

BENCHMARKS = ("echo", "stream", "takeover", "start", "idle", "bus", "peers")


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    settings = Settings(options.quick, not options.bare, available_loops(options.loop))
    facts = machine()
    print(f"# Benchmarks\n\n{machine_line(facts)}", flush=True)
    reports: list[Report] = []
    failures: dict[str, str] = {}
    for name in BENCHMARKS if options.benchmark == "all" else (options.benchmark,):
        try:
            report: Report = importlib.import_module(name).run(settings)
        except BenchmarkError as error:
            failures[name] = str(error)
            print(f"\n## {name}\n\nNOT MEASURED: {error}", flush=True)
        else:
            reports.append(report)
            print(f"\n{report.text()}", flush=True)
    if options.json:
        content = {
            "machine": facts,
            "reports": [r.as_json() for r in reports],
            "failures": failures,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 1 if failures else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("benchmark", nargs="?", default="all", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--quick", action="store_true", help="a few seconds for each benchmark")
    parser.add_argument(
        "--bare", action="store_true", help="the baselines alone, without the library"
    )
    parser.add_argument(
        "--loop",
        nargs="+",
        default=["asyncio", "uvloop"],
        choices=["asyncio", "uvloop"],
        help="event loops",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
