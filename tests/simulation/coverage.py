"""Which steps of the tables are taken: watches the real classes while schedules run.

``watch()`` puts itself around the methods that take the steps, until ``unwatch()``. What a step is
called, and which there are, is in ``tables``.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import TYPE_CHECKING, Any

from open_channel.bus.core import records as r
from open_channel.bus.core.broker import Broker
from open_channel.bus.core.groups import Group, Job, _Handed
from open_channel.bus.core.jobs import Jobs
from open_channel.bus.core.member import MemberCore
from open_channel.bus.core.mixed import parse_mixed
from open_channel.bus.core.routing import Routing
from open_channel.protocol import outbox, session, states
from open_channel.protocol.frames import Kind
from tests.simulation.tables import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from open_channel.bus.core.held import Held
    from open_channel.bus.core.interests import Interest
    from open_channel.bus.core.seat import Entry, Seat

__all__ = [
    "forget",
    "heard",
    "note_heard",
    "note_told",
    "step",
    "steps_taken",
    "taken",
    "unwatch",
    "watch",
]

taken: Counter[Step] = Counter()
"""{a step: how often}, of all schedules of this process; see ``tables``."""

heard = [0] * (max(Kind) + 1)
"""[kind of frame]: how often one was read, in the state of its connection that takes it."""

_UNNAMED = int(r.Flag.ENCODED | r.Flag.TAKING)
_PROTOCOL = {
    id(states.SESSION): "SESSION",
    id(states.SENDING): "SENDING",
    id(states.CHANNEL): "CHANNEL",
}


_undo: list[tuple[Any, str, Any]] = []
"""(class or module, name, what was there before)."""


def around(cls: type, name: str) -> Callable[[Callable[..., Any]], None]:
    """Put a function around a method; it gets the method first, then its arguments."""

    def put(wrapper: Callable[..., Any]) -> None:
        method = getattr(cls, name)

        @functools.wraps(method)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            return wrapper(method, *arguments, **options)

        _undo.append((cls, name, method))
        setattr(cls, name, wrapped)

    return put


def step(table: Any, state: Any, event: Any) -> Any:
    """See ``states.step()``."""
    after = states.step(table, state, event)
    taken[_PROTOCOL[id(table)], state.value, event.value, after.value] += 1
    return after


def steps_taken() -> Counter[Step]:
    """{a step of a table: how often it was taken}."""
    counts = Counter(taken)
    for state, kinds in states.ACCEPTED.items():
        for kind in kinds:
            if heard[kind]:
                counts["ACCEPTED", state.value, Kind(kind).name] = heard[kind]
    return counts


def forget() -> None:
    """Count from zero."""
    taken.clear()
    heard[:] = [0] * len(heard)


def watch() -> None:
    """Begin to watch."""
    for module in (session, outbox):
        _undo.append((module, "step", vars(module)["step"]))
        setattr(module, "step", step)  # noqa: B010 - they do not export it
    _watch_jobs()
    _watch_entries()
    _watch_seats()
    _watch_subscriptions()
    _watch_publications()


def unwatch() -> None:
    """Watch no more: the classes are as they were."""
    while _undo:
        owner, name, thing = _undo.pop()
        setattr(owner, name, thing)


# --- jobs and requests at the broker --------------------------------------------------------------

_why = ["?"]
"""What is going on, the innermost last."""
_before: dict[Job, str] = {}
"""{a job whose holder dies, or gives it back: where it stood}."""


def _because(cls: type, name: str, why: str) -> None:
    @around(cls, name)
    def during(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        _why.append(why)
        try:
            return method(*arguments, **options)
        finally:
            _why.pop()


def _job_state(jobs: Jobs, job: Job) -> str:
    if jobs._open.get(job.key) is not job:
        return "over"
    if job.holder is not None:
        return "read" if job.read else "handed out"
    return "later" if job.key in jobs._later else "waiting"


def _job(job: Job, before: str, event: str, after: str) -> None:
    taken["REQUEST" if job.request else "JOB", before, event, after] += 1


def _watch_jobs() -> None:
    for name, why in {
        "done": "done",
        "reject": "rejected",
        "cancel": "cancelled",
        "died": "a member dies",
        "take_back": "out of touch",
    }.items():
        _because(Jobs, name, why)
    for name, why in {
        "remove": "unsubscribed",
        "settle": "all are back",
        "_abandon": "its group is gone",
    }.items():
        _because(Routing, name, why)

    @around(Jobs, "begin")
    def _(method: Callable[..., None], jobs: Jobs, job: Job, flags: int) -> None:
        method(jobs, job, flags)
        _job(job, "new", "routed", _job_state(jobs, job))

    @around(Jobs, "report")
    def _(method: Callable[..., Any], jobs: Jobs, seat: Seat, reported: r.Job) -> Any:
        job = jobs._open.get((reported.publisher, reported.seq, reported.group))
        before = _job_state(jobs, job) if job is not None else ""
        found = method(jobs, seat, reported)
        if job is not None:
            _job(job, before, "reported", _job_state(jobs, job))
        return found

    @around(Jobs, "settle")
    def _(method: Callable[..., None], jobs: Jobs) -> None:
        for job in jobs._later.values():
            _job(job, "later", "all are back", "waiting")
        method(jobs)

    @around(Jobs, "died")
    def _(method: Callable[..., None], jobs: Jobs, seat: Seat) -> None:
        _before.update((job, _job_state(jobs, job)) for job in seat.jobs.values())
        method(jobs, seat)
        _before.clear()

    @around(Jobs, "reject")
    def _(method: Callable[..., None], jobs: Jobs, seat: Seat, key: Any, turn: int) -> None:
        if (job := seat.jobs.get(key)) is not None:
            _before[job] = _job_state(jobs, job)
        method(jobs, seat, key, turn)
        _before.clear()

    @around(Jobs, "finish")
    def _(method: Callable[..., None], jobs: Jobs, job: Job) -> None:
        before = _before.get(job) or _job_state(jobs, job)
        method(jobs, job)
        _job(job, before, _why[-1], "over")

    @around(Group, "hold")
    def _(method: Callable[..., None], group: Group, job: Job, consumer: Any) -> None:
        method(group, job, consumer)
        if not job.read:
            _job(job, "waiting", "a hand is free", "handed out")

    @around(Group, "put_back")
    def _(method: Callable[..., None], group: Group, jobs: list[Job]) -> None:
        for job in jobs:
            _job(job, "read" if job.read else "handed out", _why[-1], "waiting")
        method(group, jobs)

    @around(Group, "add")
    def _(method: Callable[..., None], group: Group, job: Job) -> None:
        method(group, job)
        if _why[-1] == "rejected":
            _job(job, _before[job], "rejected", "waiting")
        elif _why[-1] == "its group is gone":
            _job(job, "waiting", _why[-1], "waiting")

    @around(_Handed, "received")
    def _(method: Callable[..., None], handed: _Handed) -> None:
        job, was = handed.job, handed.job.read
        method(handed)
        if job.read and not was:
            _job(job, "handed out", "received", "read")


# --- publications at the broker -------------------------------------------------------------------


def _watch_entries() -> None:
    @around(Broker, "progressed")
    def _(method: Callable[..., None], broker: Broker, entry: Entry) -> None:
        before = "with groups" if entry.told else "waiting"
        method(broker, entry)
        gone = broker.seats.get(entry.seat.member) is not entry.seat
        if not entry.waiting:
            taken["ENTRY", before, "its publisher is gone" if gone else "done", "over"] += 1
        elif entry.told and before == "waiting":
            taken["ENTRY", before, "only jobs are left", "with groups"] += 1


# --- members at the broker ------------------------------------------------------------------------


def _seat_state(broker: Broker, seat: Seat) -> str:
    if broker.seats.get(seat.member) is not seat:
        return "gone"
    if seat.outbox is None:
        return "expected" if seat in broker.expected else "absent"
    opening = "returning" if seat in broker.expected else "opening"
    state = "present" if seat.back else opening
    return f"{state}, left out" if seat.released else state


def _seat(broker: Broker, seats: Iterable[Seat], event: str, method: Callable[[], Any]) -> Any:
    before = [(seat, _seat_state(broker, seat)) for seat in seats]
    result = method()
    for seat, state in before:
        if (after := _seat_state(broker, seat)) != state:
            taken["SEAT", state, event, after] += 1
    return result


def _watch_seats() -> None:
    @around(Broker, "_seat")
    def _(method: Callable[..., Seat], broker: Broker, info: r.MemberInfo) -> Seat:
        seat = method(broker, info)
        # The caller decides which it is.
        _made.append(seat)
        return seat

    @around(Broker, "__init__")
    def _(method: Callable[..., None], broker: Broker, *arguments: Any, **options: Any) -> None:
        method(broker, *arguments, **options)
        taken["HOSTING", "new", "elected", "settled" if broker.settled else "expecting"] += 1
        for _ in _made:
            taken["SEAT", "new", "is present at the election", "expected"] += 1
        _made.clear()

    @around(Broker, "_expect")
    def _(
        method: Callable[..., None], broker: Broker, one: Seat, roster: list[r.MemberInfo]
    ) -> None:
        was = broker.settled
        method(broker, one, roster)
        for seat in _made:
            if seat in broker.expected and seat is not one:
                taken["SEAT", "new", "is in a roster", "expected"] += 1
        if was and not broker.settled:
            taken["HOSTING", "settled", "one has been with another", "expecting"] += 1

    @around(Broker, "_open")
    def _(
        method: Callable[..., None], broker: Broker, member: bytes, box: Any, snapshot: r.Snapshot
    ) -> None:
        seat = broker.seats.get(member)
        before = _seat_state(broker, seat) if seat is not None else "new"
        method(broker, member, box, snapshot)
        after = _seat_state(broker, broker.seats[member])
        taken["SEAT", before, "snapshot", after] += 1
        _made.clear()

    @around(Broker, "_command")
    def _(method: Callable[..., None], broker: Broker, seat: Seat, record: r.Control) -> None:
        if isinstance(record, r.Resent):
            _seat(broker, [seat], "resent", lambda: method(broker, seat, record))
        else:
            method(broker, seat, record)

    @around(Broker, "_whole")
    def _(method: Callable[..., None], broker: Broker, seat: Seat) -> None:
        if seat.outbox is not None and seat.released:
            _seat(broker, [seat], "whole", lambda: method(broker, seat))

    @around(Broker, "_release")
    def _(method: Callable[..., None], broker: Broker, seat: Seat) -> None:
        _seat(broker, [seat], "lagging", lambda: method(broker, seat))
        if seat in _standing:
            _standing[seat] = _seat_state(broker, seat)

    @around(Broker, "tick")
    def _(method: Callable[..., None], broker: Broker, now: float, unseen: float) -> None:
        over = bool(broker.expected) and now >= broker._deadline + unseen
        _standing.update((seat, _seat_state(broker, seat)) for seat in broker.expected if over)
        _why.append("grace over")
        method(broker, now, unseen)
        _why.pop()
        for seat, before in _standing.items():
            taken["SEAT", before, "grace over", _seat_state(broker, seat)] += 1
        _standing.clear()

    @around(Broker, "left")
    def _(method: Callable[..., None], broker: Broker, member: bytes, now: float) -> None:
        seat = broker.seats.get(member)
        _why.append("a member dies")
        _seat(broker, [seat] if seat else [], "left", lambda: method(broker, member, now))
        _why.pop()

    @around(Broker, "_settle")
    def _(method: Callable[..., None], broker: Broker) -> None:
        why = {"grace over": "grace over", "a member dies": "the last one is dead"}.get(_why[-1])
        if broker.seats:
            taken["HOSTING", "expecting", why or "the last one is back", "settled"] += 1
        method(broker)


_made: list[Seat] = []
"""Seats that somebody is about to say the origin of."""
_standing: dict[Seat, str] = {}
"""{who is expected while the grace ends: where it stands}."""


# --- subscriptions --------------------------------------------------------------------------------


def _kind(record: r.Subscribe | Interest) -> str:
    if record.serves:
        return "responder"
    return "consumer" if record.group else "blocking" if record.blocks else "plain"


def _watch_subscriptions() -> None:
    @around(Routing, "add")
    def _(
        method: Callable[..., Any],
        routing: Routing,
        seat: Seat,
        record: r.Subscribe,
        *,
        back: bool = False,
    ) -> Any:
        event = "subscribed"
        if back:
            event = "told again" if record.confirmed else "told, not confirmed"
        taken[f"SUBSCRIPTION, {_kind(record)}", "new", event, "known"] += 1
        return method(routing, seat, record, back=back)

    @around(Routing, "remove")
    def _(
        method: Callable[..., None], routing: Routing, subscription: Any, kept: Any = None
    ) -> None:
        event = "its member is gone" if kept is None else "unsubscribed"
        taken[f"SUBSCRIPTION, {_kind(subscription.record)}", "known", event, "over"] += 1
        method(routing, subscription, kept)

    @around(MemberCore, "subscribe")
    def _(method: Callable[..., Interest], core: MemberCore, make: Any) -> Interest:
        interest = method(core, make)
        taken[f"INTEREST, {_kind(interest)}", "new", "subscribed", "asked"] += 1
        return interest

    @around(MemberCore, "unsubscribe")
    def _(method: Callable[..., None], core: MemberCore, interest: Interest, kept: Any) -> None:
        if core.interest(interest.id) is not None:
            state = "live" if interest.confirmed else "asked"
            taken[f"INTEREST, {_kind(interest)}", state, "unsubscribed", "over"] += 1
        method(core, interest, kept)

    @around(MemberCore, "_confirmed")
    def _(method: Callable[..., None], core: MemberCore, number: int) -> None:
        interest = core.interest(number)
        if interest is not None and not interest.confirmed:
            taken[f"INTEREST, {_kind(interest)}", "asked", "confirmed", "live"] += 1
        method(core, number)


# --- publications at their publisher --------------------------------------------------------------


def _held_state(core: MemberCore, held: Held) -> str:
    if core._held.get(held.first) is not held:
        return "over"
    if held.over:
        return "cancelled"
    if held.share == 1:
        return "with groups"
    return "sent" if held.sent else "unsent"


def _watch_publications() -> None:
    @around(MemberCore, "_keep")
    def _(method: Callable[..., Held], core: MemberCore, *arguments: Any) -> Held:
        held = method(core, *arguments)
        taken["PUBLICATION", "new", "published", _held_state(core, held)] += 1
        return held

    @around(MemberCore, "opened")
    def _(method: Callable[..., None], core: MemberCore) -> None:
        core._opened = False  # as it does, to find out what it sends
        core.flush()
        before = [(held, _held_state(core, held)) for held in core._held.values()]
        _why.append("another host")
        method(core)
        _why.pop()
        for held, state in before:
            taken["PUBLICATION", state, "another host", _held_state(core, held)] += 1
        for interest in core._interests.values():
            state = "live" if interest.confirmed else "asked"
            taken[f"INTEREST, {_kind(interest)}", state, "another host", state] += 1

    @around(MemberCore, "_drop")
    def _(method: Callable[..., None], core: MemberCore, held: Held) -> None:
        if _why[-1] != "another host":
            event = "answered" if _why[-1] == "answered" else "acknowledged"
            taken["PUBLICATION", _held_state(core, held), event, "over"] += 1
        method(core, held)

    @around(MemberCore, "_answered")
    def _(method: Callable[..., None], core: MemberCore, seq: int) -> None:
        _why.append("answered")
        method(core, seq)
        _why.pop()

    @around(MemberCore, "cancel")
    def _(method: Callable[..., bool], core: MemberCore, seq: int) -> bool:
        held = core._held.get(seq)
        before = _held_state(core, held) if held is not None else ""
        waited = method(core, seq)
        if held is not None and (after := _held_state(core, held)) != before:
            taken["PUBLICATION", before, "cancelled", after] += 1
        return waited

    @around(MemberCore, "_receive_control")
    def _(method: Callable[..., None], core: MemberCore, record: r.Control) -> None:
        held = core._held.get(record.first) if isinstance(record, r.Taking) else None
        before = _held_state(core, held) if held is not None else ""
        method(core, record)
        if held is not None and (after := _held_state(core, held)) != before:
            taken["PUBLICATION", before, "only jobs are left", after] += 1


# --- what is said ---------------------------------------------------------------------------------

_TAGS = {kind.__struct_config__.tag: kind.__name__ for kind in r.Control.__args__}
_KINDS = {r.PUBLISH: "PUBLISH", r.DIRECT: "DIRECT", r.JOB: "JOB", r.ACK: "ACK"}


@functools.cache
def _name(kind: int, detail: int) -> str:
    if kind == r.CONTROL:
        return str(_TAGS[detail])
    if kind == r.JOB:
        return "JOB, again" if detail else "JOB"
    flags = r.Flag(detail & ~_UNNAMED)
    return ", ".join([_KINDS[kind], *(flag.name or "" for flag in flags)])


def name_of(record: bytes) -> str:
    """What a record is, with the flags that make a difference."""
    kind = record[0]
    if kind == r.ACK:
        return "ACK"
    if kind == r.MIXED:
        mixed = parse_mixed(record)
        resent = ", RESENT" if mixed.flags & r.RESENT else ""
        part = ", part" if mixed.total <= mixed.last - mixed.first else ""
        return f"MIXED{resent}{part}"
    return _name(kind, record[2] if kind == r.CONTROL else record[1])


def note_heard(broker: Broker, member: bytes, record: bytes) -> None:
    """A broker is about to take in a record of a member."""
    seat = broker.seats.get(member)
    state = "new" if seat is None else _seat_state(broker, seat).removesuffix(", left out")
    taken["HEARD", state, name_of(record)] += 1


def note_told(record: bytes) -> None:
    """A member is about to take in a record of its broker."""
    taken["TOLD", name_of(record)] += 1
