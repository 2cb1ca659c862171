"""Interleaved rounds: every entry once in each, in a fresh set of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness import BenchmarkError

from peers.patterns import Figures
from peers.plan import Entry, Pattern
from peers.record import Found, Record, the_machine

Tell = Callable[[str], None]


QUICK_MOST = 20
"""Members, topics... that a quick run has at most."""
QUICK_SHARE = 5
QUICK_LEAST = 2
"""A quick run sends a fifth of what a measurement begins with, and no less than this."""


def wanted(
    pattern: Pattern, names: Sequence[str], record: Record, quick: bool = False
) -> list[Entry]:
    """The entries whose peers are installed; those that are not are put on the record."""
    entries = []
    for entry in pattern.entries():
        if quick and (entry.x or 0) > QUICK_MOST:
            record.left_out.append(entry.key)
            continue
        if names and not any(entry.peer.key.startswith(name) for name in names):
            continue
        if entry.peer.absent():
            record.add_absent(entry.peer)
        else:
            entries.append(entry)
    return entries


def attempt(entry: Entry, found: Found, count: int) -> Figures | None:
    """Measure once. A failure is put on the record, and the entry is out."""
    try:
        return entry.measure(count)
    except BenchmarkError as error:
        found.failed = str(error).strip()[:600]
        return None


SHORT = 0.25  # seconds: what is over more quickly was mostly beginning


def calibrate(pattern: Pattern, entry: Entry, found: Found) -> None:
    """Find out how many messages take about as long as a measurement should."""
    if pattern.first == pattern.most:
        found.count = pattern.most
        return
    count = pattern.first
    while True:
        figures = attempt(entry, found, count)
        if figures is None:
            return
        if figures["seconds"] >= SHORT or 4 * count > pattern.most:
            break
        count *= 4
    fitting = count / figures["seconds"] * pattern.seconds
    found.count = round(max(pattern.least, min(pattern.most, fitting)))


def run(
    pattern: Pattern,
    record: Record,
    *,
    rounds: int,
    within: float,
    peers: Sequence[str],
    tell: Tell,
    keep: Callable[[], None] = lambda: None,
    quick: bool = False,
) -> Record:
    """Add rounds to a record until it has so many, or the time (in seconds) would run out.

    ``keep()`` is called whenever there is more to keep.
    """
    begun = time.monotonic()
    deadline = begun + within
    if not record.machine:
        record.machine = the_machine()
    entries = wanted(pattern, peers, record, quick)
    for entry in entries:
        if entry.key not in record.entries:
            peer = entry.peer
            found = Found(peer.key, entry.name, peer.kind, peer.setup, entry.x)
            record.entries[entry.key] = found
            if quick:
                found.count = max(pattern.first // QUICK_SHARE, QUICK_LEAST)
            else:
                calibrate(pattern, entry, found)
                tell(f"{pattern.key}: {entry.key}: {found.failed or found.count}")
    done = max((len(f.rounds) for f in record.entries.values()), default=0)
    slowest = time.monotonic() - begun  # the first guess: finding out took about as long
    keep()
    while done < rounds and time.monotonic() + slowest < deadline:
        begun = time.monotonic()
        one_round(entries, record, pattern)
        done += 1
        slowest = max(slowest, time.monotonic() - begun)
        keep()
        tell(f"{pattern.key}: round {done} of {rounds}, {time.monotonic() - begun:.0f} s")
    return record


def one_round(entries: Sequence[Entry], record: Record, pattern: Pattern) -> None:
    for entry in entries:
        found = record.entries[entry.key]
        if found.failed:
            continue
        figures = attempt(entry, found, found.count)
        if figures is not None:
            found.rounds.append(figures)
            if figures["seconds"] < pattern.seconds / 2:
                # The first guess was too low: more in the next round.
                share = min(3.0, pattern.seconds / figures["seconds"])
                found.count = min(pattern.most, round(found.count * share))
