"""Whether locks excluded, listeners heard, calls ended, and everything was given back."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.chaos.evidence import SETTLES, Run, Violation, Witness

__all__ = ["judge_lingering", "judge_listeners", "judge_locks", "judge_processes"]

_VACANT = 10.0  # seconds without a leader, though somebody who runs wants to lead
_MOMENT = 0.1  # seconds between having a lock, or letting go of it, and writing that down
_HEALED = "ERROR shop: cannot host: [Errno 2] No such file or directory"
"""What a host says whose directory is deleted in that moment; it tries again."""

_UNEXPECTED = ("Traceback", "ERROR", "CRITICAL", "never retrieved", "never awaited", " ended: ")
"""What nobody's errors may hold; the last says that the other side broke the protocol."""


class Term(NamedTuple):
    """For how long somebody held a lock, at the least."""

    begin: float
    end: float
    who: Witness


def judge_locks(run: Run) -> Iterator[Violation]:
    """G8. A lock whose file is deleted excludes nobody any more: a term ends there."""
    terms: dict[str, list[Term]] = defaultdict(list)
    for witness in run.witnesses:
        for name, term in _terms(run, witness):
            if term.begin < term.end:
                terms[name].append(term)
    for name, held in terms.items():
        held.sort(key=lambda term: term.begin)
        longest: Term | None = None
        for term in held:
            if longest is not None and term.begin < longest.end:
                kind = "leader" if name == "leader" else "lock"
                who = longest.who.name, term.who.name
                text = f"{name!r} by {' and '.join(who)} for {longest.end - term.begin:.6f} s"
                yield Violation(kind, text, term.begin, who)
            if longest is None or term.end > longest.end:
                longest = term


def _terms(run: Run, witness: Witness) -> Iterator[tuple[str, Term]]:
    asked: dict[str, list[float]] = defaultdict(list)
    for name, at in witness.of("wants"):
        asked[name].append(at)
    for name, term in _held(witness):
        # It may have had the lock for a while when it came to writing that down.
        before = bisect.bisect_right(asked[name], term.begin)
        wanted = asked[name][before - 1] if before else term.begin
        ends = [max(term.begin, since) for since, until in run.deleted if until >= wanted]
        yield name, term._replace(end=min([term.end, *ends]))


def _held(witness: Witness) -> Iterator[tuple[str, Term]]:
    """When it held what, as it wrote down."""
    released: dict[str, list[float]] = defaultdict(list)
    for name, _, at in witness.of("unlocks"):
        released[name].append(at)
    for name, begin in witness.of("locked"):
        after = bisect.bisect_left(released[name], begin)  # they are in order, as they came
        ends = released[name][after : after + 1]
        if witness.killed is not None and witness.killed >= begin:
            ends.append(witness.killed)
        # One who has noted neither ended by itself, and is judged for that.
        yield name, Term(begin, min(ends, default=begin), witness)


def vacancies(run: Run) -> list[float]:
    """For how long nobody led, between two leaders."""
    terms = sorted(
        (term.begin, term.end)
        for witness in run.of("leader")
        for _, term in _terms(run, witness)
        if term.begin < run.end
    )
    return [max(0.0, after[0] - before[1]) for before, after in itertools.pairwise(terms)]


def judge_vacancies(run: Run) -> Iterator[Violation]:
    """Somebody leads while anybody wants to."""
    longest = max(vacancies(run), default=0.0)
    if longest > _VACANT:
        yield Violation("leader", f"nobody led for {longest:.1f} s", run.end, ())


def judge_listeners(run: Run) -> Iterator[Violation]:
    """G3: each message is heard and answered, and what is heard again is marked."""
    heard: dict[tuple[str, int], list[tuple[str, bool, float, Witness]]] = defaultdict(list)
    for listener in run.of("listener"):
        last: dict[str, tuple[str, int]] = {}
        for client, number, redelivered, conversation, at in listener.of("heard"):
            heard[client, number].append((conversation, redelivered, at, listener))
            before = last.get(conversation)
            if before is not None and (before[0] != client or number <= before[1]):
                text = f"{number} of {client} after {before} in {conversation}"
                yield Violation("listener", text, at, (client, listener.name))
            last[conversation] = client, number
    for (client, number), times in heard.items():
        marked = sum(redelivered for _, redelivered, _, _ in times)
        if marked < len(times) - 1:
            names = tuple(witness.name for *_, witness in times)
            text = f"{number} of {client} heard {len(times)} times, {marked} marked"
            yield Violation("listener", text, times[-1][2], (client, *names))
    for client in run.of("talker", "listener"):
        answers: dict[int, int] = defaultdict(int)
        for number, _, _ in client.of("answer"):
            answers[number] += 1
        for number, at in client.of("wrote"):
            if not answers[number] and client.alive:
                text = f"{number} of {client.name} was never answered"
                yield Violation("listener", text, at, (client.name,))
            if answers[number] > len(heard[client.name, number]):
                text = f"{number} of {client.name}: more answers than it was heard"
                yield Violation("listener", text, at, (client.name,))


def judge_lingering(run: Run) -> Iterator[Violation]:
    """A thread that waits for a lock may stay as long as who holds it does not run; and no longer.

    Nothing can call it back from ``flock()``: it lets go of the lock as soon as it has it.
    """
    for witness in run.witnesses:
        for names, left, at in witness.of("lingered"):
            excused = _together([s for name in names for s in _standstills(run, name)], left, at)
            if at - left - excused > SETTLES:
                text = f"{witness.name}: a thread waits for {names} for {at - left:.1f} s"
                who = f"who holds it did not run for {excused:.1f} s"
                yield Violation("leak", f"{text}, and {who}", at, (witness.name,))


def _standstills(run: Run, name: str) -> Iterator[tuple[float, float]]:
    """The times in which one who held a lock did not run."""
    for witness in run.witnesses:
        terms = [term for held, term in _held(witness) if held == name]
        killed = float("inf") if witness.killed is None else witness.killed
        for begin, end in witness.outages:
            until = min(end, killed)
            if any(t.begin - _MOMENT <= until and begin <= t.end + _MOMENT for t in terms):
                yield begin, until


def _together(spans: list[tuple[float, float]], begin: float, end: float) -> float:
    """How much of a time these spans cover."""
    covered = 0.0
    reached = begin
    for since, until in sorted(spans):
        covered += max(0.0, min(until, end) - max(since, reached))
        reached = max(reached, min(until, end))
    return covered


def judge_processes(run: Run, errors: dict[str, str]) -> Iterator[Violation]:
    """Calls that hang, errors, and what is left when a member has left; ``errors`` is stderr."""
    for witness in run.witnesses:
        for what, at in witness.of("hung"):
            yield Violation("hung", f"{what} of {witness.name}", at, (witness.name,))
        for error, trace, at in witness.of("failed"):
            text = f"{witness.name}: {error}\n{trace}"
            yield Violation("error", text, at, (witness.name,))
        for more, at in witness.of("leaks"):
            if more:
                text = f"{witness.name}: {', '.join(more)}"
                yield Violation("leak", text, at, (witness.name,))
        for outcome, at in witness.of("in child"):
            if outcome != "ChannelForked":
                text = f"{witness.name}: its parent's channel raises {outcome!r}"
                yield Violation("error", text, at, (witness.name,))
        text = errors.get(witness.name, "")
        if run.deleted:
            text = text.replace(_HEALED, "")
        if any(word in text for word in _UNEXPECTED):
            at = witness.killed or run.end
            yield Violation("error", f"{witness.name}:\n{text[-4000:]}", at, (witness.name,))
