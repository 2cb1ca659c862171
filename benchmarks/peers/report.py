"""The peers as one of the benchmarks of ``run.py``: fewer rounds, and nothing is kept."""

from __future__ import annotations

import sys

from harness import Report, Settings

from peers import all_peers, tables
from peers.goals import aims
from peers.peer import Peer
from peers.plan import PATTERNS
from peers.record import Record
from peers.rounds import run

LONG = ("soak",)
"""What takes minutes is left to ``speed.py``."""
ROUNDS = 3


def report(settings: Settings) -> Report:
    found = Report("peers")
    records: dict[str, Record] = {}
    names = [peer.key for peer in all_peers() if takes_part(peer, settings)]
    for name, pattern in PATTERNS.items():
        if name in LONG:
            found.notes.append(f"{pattern.title}: `benchmarks/speed.py {name}` measures it.")
            continue
        record = Record(name, pattern.title, pattern.varies)
        run(
            pattern,
            record,
            rounds=1 if settings.quick else ROUNDS,
            within=float("inf"),
            peers=names,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
            quick=settings.quick,
        )
        records[name] = record
        if record.measured():
            found.tables.append(tables.table(record))
        found.notes += [f"{name}: {note}" for note in tables.notes(record)]
    found.goals = [goal for aim in aims(records) for goal in aim.goals()]
    return found


def takes_part(peer: Peer, settings: Settings) -> bool:
    return peer.kind != "ours" or (settings.ours and peer.loop in settings.loops)
