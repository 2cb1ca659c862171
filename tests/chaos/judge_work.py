"""Whether jobs and requests were done, and by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.chaos.evidence import Run, Violation, Witness

__all__ = ["judge_jobs", "judge_requests"]

_Work = tuple[Witness, float, float]
"""Who, from when to when."""


def judge_jobs(run: Run) -> Iterator[Violation]:
    """G6."""
    done = _done(run)
    for publisher in run.of("publisher"):
        if not publisher.alive or not publisher.of("flushed"):
            continue
        for family, number, at in publisher.of("published"):
            if family == "jobs" and (publisher.name, number) not in done:
                text = f"{number} of {publisher.name}"
                yield Violation("job lost", text, at, (publisher.name,))
    for (publisher_name, number), work in done.items():
        lasting = [w for w in work if w[0].alive and not run.was_away(*w)]
        if len(lasting) > 1:
            names = tuple(sorted({witness.name for witness, _, _ in lasting}))
            text = f"{number} of {publisher_name} by {' and '.join(names)}"
            yield Violation("job twice", text, lasting[-1][2], (publisher_name, *names))


def _done(run: Run) -> dict[tuple[str, int], list[_Work]]:
    done: dict[tuple[str, int], list[_Work]] = defaultdict(list)
    for worker in run.of("worker"):
        began: dict[tuple[str, int], float] = {}
        for publisher, number, _, at in worker.of("began"):
            began[publisher, number] = at
        for publisher, number, at in worker.of("did"):
            done[publisher, number].append((worker, began[publisher, number], at))
    return done


def judge_requests(run: Run) -> Iterator[Violation]:
    """G7."""
    responders = {witness.id: witness for witness in run.of("responder")}
    handled = _handled(run)
    for requester in run.of("requester"):
        asked = {number: (kind, to, at) for number, kind, to, at in requester.of("request")}
        for number, kind, outcome, by, taken, at in requester.of("outcome"):
            _, to, begun = asked.pop(number)
            who = (requester.name, *by)
            problem = _problem(run, kind, outcome, by, responders, responders.get(to), begun, at)
            if problem:
                text = f"{kind} {number} of {requester.name} after {taken:.2f} s: {problem}"
                yield Violation("request", text, at, who)
            again = handled.get((requester.name, number), [])
            if kind != "all" and len(again) > 1:
                names = tuple(witness.name for witness, _, _ in again)
                text = f"{kind} {number} of {requester.name} handled by {' and '.join(names)}"
                yield Violation("request", text, again[-1][2], (requester.name, *names))
        if requester.alive:
            for number, (kind, _, at) in asked.items():
                text = f"{kind} {number} of {requester.name} never ended"
                yield Violation("request", text, at, (requester.name,))


def _handled(run: Run) -> dict[tuple[str, int], list[_Work]]:
    """Which requests were begun by whom, of those who live on and were in touch."""
    handled: dict[tuple[str, int], list[_Work]] = defaultdict(list)
    for responder in run.of("responder"):
        if responder.alive:
            for requester, number, _, at in responder.of("asked"):
                if not run.was_away(responder, at, at):
                    handled[requester, number].append((responder, at, at))
    return handled


def _problem(
    run: Run,
    kind: str,
    outcome: str,
    by: list[str],
    responders: dict[str, Witness],
    target: Witness | None,
    begun: float,
    ended: float,
) -> str:
    """What is wrong with how it ended; "" when nothing is."""
    if kind == "all":
        # Somebody who goes may refuse in that moment; for one who stays, its reply is missing then.
        if outcome not in {"replies", "NoResponders"}:
            return outcome
        missing = [
            responder.name
            for responder in responders.values()
            if responder.stays
            and responder.first("serves") < begun
            and responder.name not in by
            and not run.was_away(responder, begun, ended)
        ]
        twice = [name for name, count in Counter(by).items() if name and count > 1]
        return f"without {missing}, twice {twice}" if missing or twice else ""
    if (
        kind == "to"
        and target is not None
        and not (target.stays and target.first("serves") < begun)
    ):
        # Somebody who comes and goes: gone before, gone meanwhile, or not serving yet.
        return "" if outcome in {"reply", "ResponderDied", "NoResponders"} else outcome
    if kind == "to":
        if target is not None and target.stays and target.first("serves") < begun:
            return "" if outcome == "reply" and by == [target.name] else outcome
        # Somebody who comes and goes: gone before, gone meanwhile, or not serving yet.
        return "" if outcome in {"reply", "ResponderDied", "NoResponders"} else outcome
    return "" if outcome in {"reply", "ResponderDied"} else outcome


def outcomes(run: Run) -> Counter[str]:
    """How the requests ended."""
    counted: Counter[str] = Counter()
    for requester in run.of("requester"):
        entry: list[Any]
        for entry in requester.of("outcome"):
            counted[entry[2]] += 1
    return counted
