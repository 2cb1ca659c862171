"""How much of everything there was, and whether that is enough to prove anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.chaos.evidence import Run, Violation
from tests.chaos.judge_messages import pairs_in_touch
from tests.chaos.judge_rest import vacancies
from tests.chaos.judge_work import outcomes

__all__ = ["figures", "judge_volume"]

_KINDS = {
    "published": "messages and jobs published",
    "got": "messages received",
    "did": "jobs done",
    "locked": "locks and leaderships held",
    "heard": "messages heard by listeners",
    "answer": "answers of listeners",
}
_LEAST = {
    "messages received": 50.0,
    "jobs done": 10.0,
    "locks and leaderships held": 2.0,
    "messages heard by listeners": 5.0,
    "requests: reply": 2.0,
    "SIGKILL of a host": 0.1,
}
"""How many of these in a second prove something; there are more, even on a busy machine."""


def figures(run: Run) -> dict[str, int]:
    """How much was done and checked."""
    count: Counter[str] = Counter()
    for witness in run.witnesses:
        for kind, name in _KINDS.items():
            count[name] += len(witness.of(kind))
    count["pairs held to exactly once"] = pairs_in_touch(run)
    count["losses told, of slow or absent subscribers"] = sum(
        1 for witness in run.of("subscriber") for entry in witness.of("got") if entry[3]
    )
    for outcome, number in sorted(outcomes(run).items()):
        count[f"requests: {outcome}"] = number
    count["longest time without a leader, ms"] = round(max(vacancies(run), default=0.0) * 1e3)
    return dict(count)


def judge_volume(run: Run, happened: Mapping[str, int], seconds: float) -> Iterator[Violation]:
    """Something must have happened, and must have been checked."""
    count = Counter(figures(run)) + Counter(happened)
    for name, rate in _LEAST.items():
        if count[name] < rate * seconds:
            yield Violation("idle", f"{name}: {count[name]} in {seconds:g} s", run.end, ())
    if not count["pairs held to exactly once"]:
        yield Violation("idle", "nobody was in touch from begin to end", run.end, ())
