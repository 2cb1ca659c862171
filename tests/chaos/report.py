"""What a chaos run prints: what happened, what was checked, and what was wrong, with excerpts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.chaos.evidence import KINDS, Violation
from tests.chaos.judge_messages import pairs_in_touch
from tests.chaos.judge_rest import vacancies
from tests.chaos.judge_work import outcomes
from tests.chaos.run import Result

__all__ = ["excerpt", "figures", "report"]

_SHOWN = 10
_BEFORE, _AFTER = 6.0, 1.0  # seconds around a violation of what was done
_NEAR = 0.3  # seconds around it of what those concerned wrote down
_LINES = 60


def figures(result: Result) -> dict[str, int]:
    """How much of what was done and checked."""
    run = result.run
    count: Counter[str] = Counter()
    for witness in run.witnesses:
        for kind, name in {
            "published": "messages and jobs published",
            "got": "messages received",
            "did": "jobs done",
            "locked": "locks and leaderships held",
            "heard": "messages heard by listeners",
            "answer": "answers of listeners",
        }.items():
            count[name] += len(witness.of(kind))
    missed = [m for w in run.of("subscriber") for *_, m, _, _ in w.of("got") if m]
    count["pairs held to exactly once"] = pairs_in_touch(run)
    count["losses told, of slow or absent subscribers"] = len(missed)
    for outcome, number in sorted(outcomes(run).items()):
        count[f"requests: {outcome}"] = number
    count["longest time without a leader, ms"] = round(max(vacancies(run), default=0.0) * 1e3)
    count["most open files of a process"] = result.files
    count["largest growth of a process, KiB"] = result.growth >> 10
    return dict(count)


def report(result: Result) -> Iterator[str]:
    """The lines of a table."""
    yield f"seed {result.seed}, {result.seconds:g} s"
    yield ""
    for name, number in sorted(result.happened.items(), key=lambda item: -item[1]):
        yield f"  {name:<48}{number:>9}"
    yield ""
    for name, number in figures(result).items():
        yield f"  {name:<48}{number:>9}"
    yield ""
    counted = Counter(violation.kind for violation in result.violations)
    for kind, what in KINDS.items():
        yield f"  {kind + ': ' + what:<68}{counted[kind]:>5}"
    for violation in result.violations[:_SHOWN]:
        yield ""
        yield from excerpt(result, violation)
    if len(result.violations) > _SHOWN:
        yield f"... and {len(result.violations) - _SHOWN} more"


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
