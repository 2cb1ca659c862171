"""Whether messages were lost, doubled or disordered, by the ledgers of those who were there."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from tests.chaos.evidence import Run, Violation, Witness

__all__ = ["judge_messages", "pairs_in_touch"]

_LOOKED_AT = 1.0  # seconds; what had arrived by then a process that was killed has written down
_OWED = 5.0  # seconds; what was published longer before a subscription does not reach it


class _Got(NamedTuple):
    number: int
    missed: int
    at: float


def judge_messages(run: Run) -> Iterator[Violation]:
    """G4 and G5."""
    published = {p.name: _sent(p) for p in run.of("publisher")}
    for subscriber in run.of("subscriber"):
        family = family_of(subscriber)
        got = _got_of(subscriber, family)
        sent = {name: times[family] for name, times in published.items()}
        yield from _sequence(subscriber, got, sent)
        yield from _silences(subscriber, family)
        drops = _drops(subscriber)
        if drops:
            yield from _count(run, subscriber, family, got, sent)
        for publisher in run.of("publisher"):
            if not sent[publisher.name]:
                continue
            mine = got.get(publisher.name, [])
            if not drops and run.in_touch(subscriber):
                yield from _exact(subscriber, publisher, mine, sent[publisher.name])
            yield from _last(run, subscriber, publisher, mine, sent[publisher.name])


def pairs_in_touch(run: Run) -> int:
    """How many pairs of publisher and subscriber were held to exactly once."""
    published = [_sent(publisher) for publisher in run.of("publisher")]
    return sum(
        1
        for subscriber in run.of("subscriber")
        if not _drops(subscriber)
        if run.in_touch(subscriber)
        for times in published
        if times[family_of(subscriber)]
    )


def _drops(subscriber: Witness) -> bool:
    """Whether its queue is so small that it drops what it takes too slowly."""
    return subscriber.options.get("overflow") != "block" and "queue" in subscriber.options


def family_of(subscriber: Witness) -> str:
    """Which messages it subscribes to."""
    pattern: str = subscriber.options["pattern"]
    return pattern.split(".", maxsplit=1)[0]


def _sent(publisher: Witness) -> dict[str, list[float]]:
    """When each was published, by family: the first is number 0."""
    sent: dict[str, list[float]] = defaultdict(list)
    for family, _, at in publisher.of("published"):
        sent[family].append(at)
    return sent


def _got_of(subscriber: Witness, family: str) -> dict[str, list[_Got]]:
    got: dict[str, list[_Got]] = defaultdict(list)
    for f, publisher, number, missed, _, at in subscriber.of("got"):
        if f == family:
            got[publisher].append(_Got(number, missed, at))
    return got


def _sequence(
    subscriber: Witness, got: dict[str, list[_Got]], sent: dict[str, list[float]]
) -> Iterator[Violation]:
    """What holds for everybody, in touch or not: nothing twice, nothing out of order."""
    for publisher, messages in got.items():
        who = subscriber.name, publisher
        seen: set[int] = set()
        before = -1
        for number, _, at in messages:
            if number in seen:
                yield Violation("double", f"{number} of {publisher}, after {before}", at, who)
            elif number < before:
                yield Violation("disorder", f"{number} of {publisher}, after {before}", at, who)
            elif number >= len(sent.get(publisher, [])):
                yield Violation("double", f"{number} of {publisher} was never sent", at, who)
            seen.add(number)
            before = max(before, number)


def _silences(subscriber: Witness, family: str) -> Iterator[Violation]:
    """A gap is told with a message behind the last one before it, and not behind the next."""
    last: dict[str, int] = {}
    told: set[str] = set()
    for f, publisher, number, missed, _, at in subscriber.of("got"):
        if f != family:
            continue
        if missed:
            told = {*last, publisher}
        before = last.get(publisher)
        if before is not None and number > before + 1 and publisher not in told:
            text = f"{before + 1} to {number - 1} of {publisher}"
            yield Violation("silent", text, at, (subscriber.name, publisher))
        last[publisher] = max(number, -1 if before is None else before)
        told.discard(publisher)


def _exact(
    subscriber: Witness, publisher: Witness, got: list[_Got], sent: list[float]
) -> Iterator[Violation]:
    """All of it: from the first after the subscription to where one of the two ends."""
    who = subscriber.name, publisher.name
    live, ended = subscriber.first("subscribed"), _end_of(subscriber)
    first = next((number for number, at in enumerate(sent) if at > live), len(sent))
    if got and got[0].number > first:
        text = f"{first} to {got[0].number - 1} of {publisher.name}, the first it had to get"
        yield Violation("lost", text, sent[first], who)
    for before, message in itertools.pairwise(got):
        if message.number > before.number + 1:
            text = f"{before.number + 1} to {message.number - 1} of {publisher.name}"
            yield Violation("lost", text, message.at, who)
    for message in got:
        if message.missed:
            text = f"was told {message.missed} at {message.number} of {publisher.name}"
            yield Violation("miscounted", text, message.at, who)
    due = _due(publisher, len(sent), ended)
    if first < due and (not got or got[-1].number < due - 1):
        begin = got[-1].number + 1 if got else first
        text = f"{begin} to {due - 1} of {publisher.name}, the last it had to get"
        yield Violation("lost", text, sent[begin], who)


def _end_of(subscriber: Witness) -> float:
    """Up to when it is owed anything: what is under way as it leaves it may have or not."""
    killed = float("inf") if subscriber.killed is None else subscriber.killed - _LOOKED_AT
    return min(killed, subscriber.first("unsubscribed"))


def _due(publisher: Witness, sent: int, ended: float) -> int:
    """Which of its messages a subscriber must have that was there until then.

    All, if the publisher has heard that all have arrived; of one that was killed, up to the last
    that was confirmed to it.
    """
    if publisher.alive and publisher.of("flushed") and publisher.first("flushed") < ended:
        return sent
    confirmed = [
        number for _, number, without, at in publisher.of("confirmed") if not without and at < ended
    ]
    return max(confirmed, default=-1) + 1


def _last(
    run: Run, subscriber: Witness, publisher: Witness, got: list[_Got], sent: list[float]
) -> Iterator[Violation]:
    """Whoever stays to the end gets what is published when all is calm, whatever befell it."""
    if not (subscriber.stays and subscriber.alive and publisher.stays):
        return
    flushed = publisher.of("flushed")
    if not flushed or subscriber.id in flushed[-1][1]:  # left out, and told so
        return
    since = got[-1].at if got else 0.0
    if _drops(subscriber) and any(m[3] and m[-1] > since for m in subscriber.of("got")):
        return  # a large message of somebody else has pushed it out, and it was told so
    if not got or got[-1].number != len(sent) - 1:
        last = got[-1].number if got else None
        text = f"the last of {publisher.name} is {last}, not {len(sent) - 1}"
        yield Violation("lost", text, run.end, (subscriber.name, publisher.name))


def _count(
    run: Run,
    subscriber: Witness,
    family: str,
    got: dict[str, list[_Got]],
    sent: dict[str, list[float]],
) -> Iterator[Violation]:
    """Of one whose queue drops: what it was told is missing is what is missing."""
    messages = [m for mine in got.values() for m in mine]
    told = sum(message.missed for message in messages)
    if any(message.missed < 0 for message in messages) or not run.in_touch(subscriber):
        return
    live = subscriber.first("subscribed")
    least = most = 0
    for publisher in run.of("publisher"):
        times, mine = sent[publisher.name], got.get(publisher.name, [])
        first = next((number for number, at in enumerate(times) if at > live), len(times))
        maybe = next((number for number, at in enumerate(times) if at > live - _OWED), first)
        if mine:
            inner = mine[-1].number - mine[0].number + 1 - len(mine)
            least += inner + max(0, mine[0].number - first)
            most += inner + max(0, mine[0].number - maybe)
            most += len(times) - 1 - mine[-1].number
        else:
            most += len(times) - maybe
    if not least <= told <= most:
        text = f"told {told} missing of {family}, and it is {least} to {most}"
        yield Violation("miscounted", text, run.end, (subscriber.name,))
