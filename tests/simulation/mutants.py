"""Broken cores, each without one rule: what the simulation must find.

Each is a function that breaks the code by way of a ``MonkeyPatch``, and so for one test only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from open_channel.bus.core import records as r
from open_channel.bus.core import seat as seat_module
from open_channel.bus.core.arrivals import Arrivals
from open_channel.bus.core.broker import Broker
from open_channel.bus.core.groups import Group
from open_channel.bus.core.jobs import Jobs
from open_channel.bus.core.member import MemberCore
from open_channel.bus.core.mixed import MIXED_HEADER, Mixed, count_topics, parse_mixed
from open_channel.bus.core.routing import Routing
from open_channel.bus.core.seat import Entry, Seat, Subscription
from open_channel.protocol.control import Hello
from tests.simulation.hosting import Hosting
from tests.simulation.sockets import Connection

__all__ = ["MUTANTS"]

Break = Callable[[pytest.MonkeyPatch], None]


def _nothing(*_: Any, **__: Any) -> None:
    """Instead of a method that does something."""


def fence_that_always_says_yes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hosting, "fence", lambda hosting: hosting.hosting)
    patch.setattr(Hosting, "fence_now", lambda hosting: hosting.hosting)


def no_log_at_a_new_host(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "_replay", _nothing)


def no_marks_of_what_was_received(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Arrivals, "is_new", lambda arrivals, publication: True)


def acknowledges_while_members_are_expected(patch: pytest.MonkeyPatch) -> None:
    publish = Broker._publish

    def hasty(broker: Broker, seat: Seat, kind: int, record: bytes) -> None:
        known = len(broker._log)
        publish(broker, seat, kind, record)
        for index in range(known, len(broker._log)):
            entry = broker._log[index].entry
            other = Entry(_Deaf(), seat, entry.first, entry.last)
            broker._log[index] = broker._log[index]._replace(entry=other)
            entry.received()  # it waits for nobody who is expected

    patch.setattr(Broker, "_publish", hasty)


class _Deaf:
    """It does not matter to it what becomes of an entry."""

    def progressed(self, entry: Entry) -> None:
        """See ``Completes``."""


def nobody_is_noted_as_left_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "_leave_out", _nothing)


def connections_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    admit = Hosting._admit

    def any_order(hosting: Hosting, connection: Connection, hello: Hello) -> bool:
        if (guest := hosting.guests.get(hello.member)) is not None:
            guest.counter = 0
        return admit(hosting, connection, hello)

    patch.setattr(Hosting, "_admit", any_order)


def no_gap_is_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Broker, "_gap", _nothing)


def drops_in_silence(patch: pytest.MonkeyPatch) -> None:
    bound = Seat.bound

    def silent(seat: Seat, limit: int) -> int:
        dropped = bound(seat, limit)
        seat.dropped.clear()
        return dropped

    patch.setattr(Seat, "bound", silent)


def resent_jobs_are_handed_out_at_once(patch: pytest.MonkeyPatch) -> None:
    begin = Jobs.begin
    patch.setattr(Jobs, "begin", lambda jobs, job, flags: begin(jobs, job, flags & ~int(r.RESENT)))


def nobody_reports_what_is_in_hand(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Routing, "report", _nothing)


def the_loss_of_a_job_is_not_told(patch: pytest.MonkeyPatch) -> None:
    control = Broker.control

    def tell(broker: Broker, seat: Seat, record: r.Control, receipt: Any = None) -> None:
        if not isinstance(record, r.Lost):
            control(broker, seat, record, receipt)

    patch.setattr(Broker, "control", tell)


def done_jobs_are_not_told_to_a_new_host(patch: pytest.MonkeyPatch) -> None:
    receive = MemberCore._receive_direct

    def forgetful(core: MemberCore, publication: r.Publication) -> None:
        receive(core, publication)
        core._known_done.clear()

    patch.setattr(MemberCore, "_receive_direct", forgetful)


def rejections_name_no_turn(patch: pytest.MonkeyPatch) -> None:
    reject = Jobs.reject

    def any_turn(jobs: Jobs, seat: Seat, key: Any, turn: int) -> None:
        job = seat.jobs.get(key)
        reject(jobs, seat, key, job.turn if job is not None else turn)

    patch.setattr(Jobs, "reject", any_turn)


def jobs_of_the_dead_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Group, "put_back", _nothing)


def who_is_silent_has_left(patch: pytest.MonkeyPatch) -> None:
    tick = Broker.tick

    def impatient(broker: Broker, now: float, unseen: float) -> None:
        lag = broker.bounds.lag
        for seat in list(broker.seats.values()):
            if seat.outbox is not None and seat.owed and now - seat.owed[0][1] > lag:
                broker.left(seat.member, now)
        tick(broker, now, unseen)

    patch.setattr(Broker, "tick", impatient)


def a_request_of_the_dead_hangs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Jobs, "end", lambda jobs, job, why: jobs.finish(job))


def blocking_subscriptions_hold_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Subscription, "hold", _nothing)


def a_part_of_a_mixed_publication_is_numbered_anew(patch: pytest.MonkeyPatch) -> None:
    only = Mixed.only

    def narrow(mixed: Mixed, wanted: Sequence[int]) -> Mixed:
        part = only(mixed, wanted)
        *fields, _, size = MIXED_HEADER.unpack_from(part.record)
        head = MIXED_HEADER.pack(*fields, part.total, size)
        return parse_mixed(head + part.record[len(head) :])

    patch.setattr(Mixed, "only", narrow)


def what_is_dropped_is_counted_to_one_topic(patch: pytest.MonkeyPatch) -> None:
    def to_one(record: bytes) -> dict[str, int]:
        counts = count_topics(record)
        return {next(iter(counts)): sum(counts.values())}

    patch.setattr(seat_module, "count_topics", to_one)


MUTANTS: tuple[Break, ...] = (
    fence_that_always_says_yes,
    no_log_at_a_new_host,
    no_marks_of_what_was_received,
    acknowledges_while_members_are_expected,
    nobody_is_noted_as_left_out,
    connections_are_not_counted,
    no_gap_is_told,
    drops_in_silence,
    resent_jobs_are_handed_out_at_once,
    nobody_reports_what_is_in_hand,
    the_loss_of_a_job_is_not_told,
    done_jobs_are_not_told_to_a_new_host,
    rejections_name_no_turn,
    jobs_of_the_dead_are_forgotten,
    who_is_silent_has_left,
    a_request_of_the_dead_hangs,
    blocking_subscriptions_hold_nobody,
    a_part_of_a_mixed_publication_is_numbered_anew,
    what_is_dropped_is_counted_to_one_topic,
)
