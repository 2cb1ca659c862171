"""Draw the figures of ``speed.py`` into the page: tables between markers, and charts.

python benchmarks/draw.py [--check] [--from FOLDER] [--page FILE]

With ``--check`` nothing is written, and the status is 1 if a table of the page is not that of the
figures. The charts need matplotlib, the tables nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import HERE
from peers import all_peers, charts, tables
from peers.peer import Peer
from peers.plan import PATTERNS
from peers.record import Record

DOCS = HERE.parent / "docs"
MARKED = re.compile(r"(<!-- speed: ([\w-]+) -->\n).*?(<!-- /speed -->)", re.DOTALL)
ORDER = ("ours", "brokered", "direct", "floor")
MACHINE = ("system", "processor", "cores", "python")
SKIP = ("time", "load", "open_channel", *MACHINE)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    records = read(options.source)
    before = options.page.read_text(encoding="utf-8")
    after = redrawn(before, records)
    if options.check:
        if after != before:
            print(f"{options.page} is stale; run: python benchmarks/draw.py")
        return int(after != before)
    options.page.write_text(after, encoding="utf-8")
    for path in charts.draw(records, options.source):
        print(path)
    return 0


def read(folder: Path) -> dict[str, Record]:
    """The records that there are, in the order of the patterns."""
    paths = {name: folder / f"{name}.json" for name in PATTERNS}
    return {name: Record.read(path) for name, path in paths.items() if path.exists()}


def redrawn(page: str, records: Mapping[str, Record]) -> str:
    """The page with what the figures say between its markers."""

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}\n{block(found[2], records)}\n\n{found[3]}"

    return MARKED.sub(replace, page)


def block(name: str, records: Mapping[str, Record]) -> str:
    if name == "goals":
        return tables.goal_table(records).text().partition("\n\n")[2]
    if name == "peers":
        return setups(all_peers())
    if name == "machine":
        return machine(records)
    if name not in records:
        return "Not measured yet."
    record = records[name]
    parts = [tables.table(record).text(), *tables.lines(tables.notes(record))]
    if charts.drawable(record):
        parts.insert(0, f"![{record.title}](assets/speed/{name}.png)")
    parts.append(f"Measured at {record.machine['time']}, revision {record.machine['revision']}.")
    return "\n\n".join(parts)


def setups(peers: Sequence[Peer]) -> str:
    ordered = sorted(peers, key=lambda peer: ORDER.index(peer.kind))
    rows = [f"| {p.name} | {tables.KINDS[p.kind]} | {p.setup} |" for p in ordered]
    return "\n".join(["| peer | kind | set-up |", "|---|---|---|", *rows])


def machine(records: Mapping[str, Record]) -> str:
    """On what and with which versions; what differs between the patterns is told."""
    values: dict[str, dict[str, None]] = {}
    for record in records.values():
        for what, value in record.machine.items():
            if what not in SKIP or what in MACHINE:
                values.setdefault(what, {})[str(value)] = None
    rows = [f"| {what} | {', '.join(some)} |" for what, some in values.items()]
    return "\n".join(["| | |", "|---|---|", *rows])


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is stale")
    parser.add_argument("--page", type=Path, default=DOCS / "speed.md", metavar="FILE")
    parser.add_argument(
        "--from", dest="source", type=Path, default=DOCS / "assets" / "speed", metavar="FOLDER"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
