"""The judges of a chaos run can complain: a clean story passes, and each spoilt one does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.chaos.evidence import KINDS, Run, Violation, Witness
from tests.chaos.judge_messages import judge_messages, pairs_in_touch
from tests.chaos.judge_rest import (
    judge_lingering,
    judge_listeners,
    judge_locks,
    judge_processes,
    judge_vacancies,
)
from tests.chaos.judge_work import judge_jobs, judge_requests
from tests.chaos.schedule import KINDS as HAPPENINGS
from tests.chaos.schedule import schedule

LAG = 1.0
END = 20.0
Notes = dict[str, list[list[Any]]]


def publisher(name: str = "p", count: int = 10) -> Witness:
    published = [["news", number, 1.0 + number] for number in range(count)]
    published += [["jobs", number, 1.0 + number] for number in range(count)]
    return Witness(
        name, "publisher", {"published": published, "flushed": [[{}, [], END - 1]]}, stays=True
    )


def subscriber(name: str = "s", count: int = 10, **options: Any) -> Witness:
    notes: Notes = {
        "subscribed": [["news.*", 0.5]],
        "got": [["news", "p", number, 0, 1.0 + number, 1.1 + number] for number in range(count)],
        "unsubscribed": [[0, END]],
    }
    return Witness(name, "subscriber", notes, stays=True, options={"pattern": "news.*", **options})


def worker(name: str, numbers: Iterable[int]) -> Witness:
    numbers = list(numbers)
    return Witness(
        name,
        "worker",
        {
            "began": [["p", number, False, 1.2 + number] for number in numbers],
            "did": [["p", number, 1.3 + number] for number in numbers],
        },
    )


def responder(name: str) -> Witness:
    return Witness(
        name,
        "responder",
        {"opened": [[f"id of {name}", 0.1]], "serves": [[0.2]], "asked": [["q", 0, False, 1.1]]},
        stays=True,
    )


def requester() -> Witness:
    return Witness(
        "q",
        "requester",
        {
            "request": [[0, "one", "", 1.0], [1, "all", "", 2.0], [2, "to", "id of r2", 3.0]],
            "outcome": [
                [0, "one", "reply", ["r1"], 0.2, 1.2],
                [1, "all", "replies", ["r1", "r2"], 0.2, 2.2],
                [2, "to", "reply", ["r2"], 0.2, 3.2],
            ],
        },
    )


def locker(name: str, begin: float, lock: str = "a", role: str = "locker") -> Witness:
    return Witness(name, role, {"locked": [[lock, begin]], "unlocks": [[lock, True, begin + 1.0]]})


def story() -> dict[str, Witness]:
    """A run in which all went well."""
    heard = [["c", 0, False, "h1/1", 1.1], ["c", 1, False, "h1/1", 2.1]]
    one, two = responder("r1"), responder("r2")
    del two.notes["asked"]
    cast = [
        publisher(),
        subscriber(),
        worker("w1", range(5)),
        worker("w2", range(5, 10)),
        one,
        two,
        requester(),
        locker("l1", 1.0),
        locker("l2", 2.0),
        locker("m1", 1.0, "leader", "leader"),
        locker("m2", 2.5, "leader", "leader"),
        Witness("h1", "listener", {"heard": heard, "leaks": [[[], END]]}),
        Witness("h2", "listener", {"heard": [["c", 1, True, "h2/1", 2.5]]}),
        Witness(
            "c",
            "talker",
            {"wrote": [[0, 1.0], [1, 2.0]], "answer": [[0, 7, 1.2], [1, 7, 2.2], [1, 8, 2.6]]},
        ),
    ]
    return {witness.name: witness for witness in cast}


def judge(cast: dict[str, Witness], **facts: Any) -> list[Violation]:
    run = Run(list(cast.values()), LAG, 0.0, END, **facts)
    judges = [
        judge_messages,
        judge_jobs,
        judge_requests,
        judge_locks,
        judge_vacancies,
        judge_listeners,
        judge_lingering,
    ]
    found = [violation for each in judges for violation in each(run)]
    return found + list(judge_processes(run, {}))


def test_a_clean_story_passes():
    cast = story()
    assert judge(cast) == []
    assert pairs_in_touch(Run(list(cast.values()), LAG)) == 1


def kill(witness: Witness, at: float) -> float:
    witness.killed = at
    return at


def away(witness: Witness, begin: float, end: float) -> int:
    witness.outages.append((begin, end))
    return len(witness.outages)


def got(cast: dict[str, Witness]) -> list[list[Any]]:
    return cast["s"].notes["got"]


def replace_outcome(cast: dict[str, Witness], number: int, outcome: str, by: list[str]) -> None:
    cast["q"].notes["outcome"][number][2:4] = [outcome, by]


SPOILT: dict[str, tuple[str, Callable[[dict[str, Witness]], object]]] = {
    "a gap": ("lost", lambda c: got(c).pop(4)),
    "the first is missing": ("lost", lambda c: got(c).pop(0)),
    "the last is missing": ("lost", lambda c: got(c).pop()),
    "the last is dropped, and not told": (
        "lost",
        lambda c: (c["s"].options.update(queue=1), got(c).pop()),
    ),
    "nothing came": ("lost", lambda c: got(c).clear()),
    "a gap that is told": ("lost", lambda c: (got(c).pop(4), got(c)[4].__setitem__(3, 1))),
    "a false alarm": ("miscounted", lambda c: got(c)[3].__setitem__(3, -1)),
    "one twice": ("double", lambda c: got(c).insert(5, list(got(c)[4]))),
    "an old one at the end": ("double", lambda c: got(c).append(list(got(c)[2]))),
    "never sent": ("double", lambda c: got(c).append(["news", "p", 10, 0, 11.0, 11.1])),
    "two exchanged": ("disorder", lambda c: got(c).insert(5, got(c).pop(4))),
    "a silence while away": (
        "silent",
        lambda c: (away(c["s"], 4.0, 7.0), got(c).pop(4)),
    ),
    "confirmed to one who died": (
        "lost",
        lambda c: (
            kill(c["p"], 12.0),
            c["p"].notes.update(flushed=[], confirmed=[["news", 9, [], 11.5]]),
            got(c).pop(),
        ),
    ),
    "confirmed long before it was killed": (
        "lost",
        lambda c: (
            kill(c["s"], 13.0),
            c["p"].notes.update(confirmed=[["news", 9, [], 11.5]]),
            got(c).pop(),
        ),
    ),
    "a queue that counts too little": (
        "miscounted",
        lambda c: (c["s"].options.update(queue=1), got(c).pop(4)),
    ),
    "a queue that counts too much": (
        "miscounted",
        lambda c: (c["s"].options.update(queue=1), got(c)[3].__setitem__(3, 1)),
    ),
    "a job of nobody": ("job lost", lambda c: c["w1"].notes["did"].pop()),
    "a job of two": ("job twice", lambda c: c.update(w3=worker("w3", [2]))),
    "a request without responders": (
        "request",
        lambda c: replace_outcome(c, 0, "NoResponders", []),
    ),
    "a request in vain": ("request", lambda c: replace_outcome(c, 0, "RequestTimeout", [])),
    "one did not reply": ("request", lambda c: replace_outcome(c, 1, "replies", ["r1"])),
    "one refused": ("request", lambda c: replace_outcome(c, 1, "NoResponders", ["r1", ""])),
    "one replied twice": (
        "request",
        lambda c: replace_outcome(c, 1, "replies", ["r1", "r2", "r2"]),
    ),
    "another one replied": ("request", lambda c: replace_outcome(c, 2, "reply", ["r1"])),
    "a request without end": ("request", lambda c: c["q"].notes["outcome"].pop()),
    "a request handled twice": (
        "request",
        lambda c: c["r2"].notes.update(asked=[["q", 0, True, 1.15]]),
    ),
    "two hold a lock": ("lock", lambda c: c.update(l3=locker("l3", 1.5))),
    "two lead": ("leader", lambda c: c.update(m3=locker("m3", 1.9, "leader", "leader"))),
    "nobody leads": ("leader", lambda c: c.update(m3=locker("m3", 15.0, "leader", "leader"))),
    "no answer": ("listener", lambda c: c["c"].notes["answer"].pop(0)),
    "an answer too many": ("listener", lambda c: c["c"].notes["answer"].append([0, 7, 3.0])),
    "heard again unmarked": (
        "listener",
        lambda c: c["h2"].notes["heard"][0].__setitem__(2, False),
    ),
    "heard out of order": ("listener", lambda c: c["h1"].notes["heard"].reverse()),
    "a call that hangs": ("hung", lambda c: c["p"].notes.update(hung=[["publish", 5.0]])),
    "an error": ("error", lambda c: c["p"].notes.update(failed=[["ValueError()", "", 5.0]])),
    "a child that publishes": ("error", lambda c: c["p"].notes.update({"in child": [["", 5.0]]})),
    "a socket left": ("leak", lambda c: c["h1"].notes.update(leaks=[[["1 socket"], END]])),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_story_does_not_pass(case: str):
    kind, spoil = SPOILT[case]
    cast = story()
    spoil(cast)
    kinds = {violation.kind for violation in judge(cast)}
    assert kind in kinds
    assert kinds <= KINDS.keys()


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):",
        "shop: connection to pid 7 ended: a publication of 0 bytes",
    ],
)
def test_a_traceback_is_an_error_and_so_is_a_broken_protocol(text: str):
    run = Run(list(story().values()), LAG)
    (violation,) = judge_processes(run, {"p": text, "s": "fine"})
    assert violation.kind == "error"


@pytest.mark.parametrize(
    "excuse",
    [
        # What was away is told what it lost, and may be.
        lambda c: (away(c["s"], 4.0, 7.0), got(c).pop(4), got(c)[4].__setitem__(3, -1)),
        # Who was killed has no more than a beginning.
        lambda c: (kill(c["s"], 5.0), [got(c).pop() for _ in range(6)]),
        # ... and of that what it had received, but not yet looked at.
        lambda c: (
            kill(c["s"], 12.0),
            c["p"].notes.update(confirmed=[["news", 9, [], 11.5]]),
            got(c).pop(),
        ),
        # What its dead publisher had not handed on.
        lambda c: (
            kill(c["p"], 10.5),
            c["p"].notes.update(flushed=[]),
            got(c).pop(),
        ),
        # A job that its dead consumer had done already, or one that was out of touch.
        lambda c: (c.update(w3=worker("w3", [2])), kill(c["w3"], 3.5)),
        lambda c: (c.update(w3=worker("w3", [2])), away(c["w3"], 2.0, 3.0)),
        # One who is about to leave refuses, and all others have replied.
        lambda c: replace_outcome(c, 1, "NoResponders", ["r1", "r2", ""]),
        # A lock is its holder's until the kill, and no longer.
        lambda c: (
            c["l1"].notes.pop("unlocks"),
            kill(c["l1"], 1.9),
        ),
    ],
)
def test_what_is_excused(excuse: Callable[[dict[str, Witness]], object]):
    cast = story()
    excuse(cast)
    assert judge(cast) == []


def test_the_last_may_be_dropped_where_that_is_told():
    cast = story() | {"p2": publisher("p2")}
    cast["s"].options.update(queue=1)
    got(cast).pop()
    got(cast).extend(["news", "p2", n, int(n == 0), 1.0 + n, END - 0.5] for n in range(10))
    assert [v.kind for v in judge(cast) if "the last of" in v.text] == []
    got(cast)[9][3] = 0
    assert [v.kind for v in judge(cast) if "the last of" in v.text] == ["lost"]


def test_a_lock_is_nobodys_when_its_file_is_deleted():
    cast = story() | {"l3": locker("l3", 1.5)}
    del cast["l2"]
    assert judge(cast, deleted=[(1.4, 1.45)]) == []
    assert judge(cast, deleted=[(1.3, 1.55)]) == []
    assert [violation.kind for violation in judge(cast, deleted=[(1.6, 1.7)])] == ["lock"]


def lingering(*, stopped: tuple[float, float], gone: float, lock: str = "a") -> list[str]:
    """One has left at 1.5, and a thread of it waits for a lock; what its holder goes through."""
    cast = story()
    holder = cast["l1"] = locker("l1", 1.0, lock)
    holder.notes["unlocks"][0][-1] = stopped[1] + 0.01
    holder.outages.append(stopped)
    del cast["l2"], cast["m1"], cast["m2"]
    cast["p"].notes["lingered"] = [[["a"], 1.5, gone]]
    return [violation.kind for violation in judge(cast)]


def test_a_thread_may_wait_for_a_lock_as_long_as_its_holder_is_stopped():
    assert lingering(stopped=(1.2, 8.0), gone=8.1) == []
    assert lingering(stopped=(1.2, 8.0), gone=12.9) == []


@pytest.mark.parametrize(
    "leak",
    [
        {"stopped": (1.2, 1.3), "gone": 8.1},  # its holder has gone on long ago
        {"stopped": (1.2, 8.0), "gone": 13.1},
        {"stopped": (9.0, 12.0), "gone": 9.1},  # ... or was stopped later
        {"stopped": (1.2, 8.0), "gone": 8.1, "lock": "b"},  # ... or holds another
    ],
)
def test_a_thread_may_wait_for_a_lock_no_longer_than_that(leak: dict[str, Any]):
    assert lingering(**leak) == ["leak"]


def test_who_is_stopped_and_holds_nothing_keeps_nobody():
    cast = story()
    away(cast["l1"], 2.2, 8.0)
    cast["p"].notes["lingered"] = [[["a"], 1.5, 8.1]]
    assert [violation.kind for violation in judge(cast)] == ["leak"]


def test_short_stops_in_a_row_are_one():
    witness = Witness("s", "subscriber", outages=[(1.0, 1.4), (1.5, 1.9), (5.0, 5.1)])
    assert witness.away(0.6) == [(1.0, 1.9)]


def test_a_seed_is_always_the_same_schedule_and_reaches_everything():
    def first(seed: int, count: int) -> list[Any]:
        steps = schedule(seed)
        return [next(steps) for _ in range(count)]

    assert first(7, 500) == first(7, 500) != first(8, 500)
    steps = first(7, 3000)
    assert {step.kind for step in steps} == HAPPENINGS.keys()
    assert all(before.at <= after.at for before, after in itertools.pairwise(steps))


def test_one_who_had_the_lock_before_its_file_was_deleted_may_say_so_late():
    cast = story() | {"l3": locker("l3", 1.5)}
    del cast["l2"]
    cast["l3"].notes["wants"] = [["a", 0.9]]
    assert judge(cast, deleted=[(0.95, 0.96)]) == []


def test_an_error_of_a_host_whose_directory_is_deleted_is_none():
    text = "1.0 ERROR shop: cannot host: [Errno 2] No such file or directory"
    run = Run(list(story().values()), LAG)
    assert len(list(judge_processes(run, {"p": text}))) == 1
    run.deleted.append((1.0, 1.1))
    assert list(judge_processes(run, {"p": text})) == []
