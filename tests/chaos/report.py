"""What a chaos run prints: what happened, what was checked, and what was wrong, with excerpts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chaos.evidence import KINDS, Violation
from tests.chaos.judge_volume import figures
from tests.chaos.run import Result

__all__ = ["excerpt", "report"]

_SHOWN = 4  # of each kind
_BEFORE, _AFTER = 6.0, 1.0  # seconds around a violation of what was done
_NEAR = 0.3  # seconds around it of what those concerned wrote down
_LINES = 60


def report(result: Result) -> Iterator[str]:
    """The lines of a table."""
    yield f"seed {result.seed}, {result.seconds:g} s"
    yield ""
    for name, number in sorted(result.happened.items(), key=lambda item: -item[1]):
        yield f"  {name:<48}{number:>9}"
    yield ""
    for name, number in figures(result.run).items():
        yield f"  {name:<48}{number:>9}"
    yield f"  {'most open files of a process':<48}{result.files:>9}"
    yield f"  {'largest growth of a process, KiB':<48}{result.growth >> 10:>9}"
    yield ""
    counted = Counter(violation.kind for violation in result.violations)
    for kind, what in KINDS.items():
        yield f"  {kind + ': ' + what:<68}{counted[kind]:>5}"
    shown: Counter[str] = Counter()
    for violation in result.violations:
        shown[violation.kind] += 1
        if shown[violation.kind] <= _SHOWN:
            yield ""
            yield from excerpt(result, violation)
    if left := len(result.violations) - sum(min(number, _SHOWN) for number in shown.values()):
        yield f"... and {left} more"


def excerpt(result: Result, violation: Violation) -> Iterator[str]:
    """What was done, and what those concerned wrote down, around a violation."""
    begin = result.run.begin
    yield f"{violation.kind}: {violation.text} (at {violation.at - begin:.3f} s)"
    lines = [
        (at, f"    {text}")
        for at, text in result.log
        if violation.at - _BEFORE < at < violation.at + _AFTER
    ]
    for witness in result.run.witnesses:
        if witness.name not in violation.who:
            continue
        near = [
            (entry[-1], f"        {witness.name} {kind} {entry[:-1]}")
            for kind, entries in witness.notes.items()
            for entry in entries
            if abs(entry[-1] - violation.at) < _NEAR
        ]
        lines += sorted(near, key=lambda line: abs(line[0] - violation.at))[:_LINES]
    for at, text in sorted(lines):
        yield f"  {at - begin:9.3f}{text}"
