"""The steps that the broker, its members and their sessions can take, as tables.

Most of these states are not kept as such: they follow from where a thing stands, in what queue and
in whose hands, and ``coverage`` reads them off. A step that a schedule takes and that is not here
is an error, in the code or in the table; a step that is here and that no schedule takes was
never tried. The states that are kept as such are in ``protocol.states``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import TypeVar

from open_channel.protocol import states
from open_channel.protocol.frames import Kind

__all__ = ["ASKED", "HEARD", "INTEREST", "JOB", "SEAT", "TABLES", "Step", "steps"]

_State = TypeVar("_State", bound=Enum)
_Event = TypeVar("_Event", bound=Enum)

Step = tuple[str, ...]
Table = Mapping[tuple[str, str], tuple[str, ...]]
"""{(state, event): the states after it}."""

SEAT: Table = {
    ("new", "is present at the election"): ("expected",),
    ("new", "is in a roster"): ("expected",),
    ("new", "snapshot"): ("opening", "returning"),
    ("expected", "snapshot"): ("returning",),
    ("expected", "grace over"): ("absent",),
    ("expected", "left"): ("gone",),
    ("absent", "snapshot"): ("opening", "opening, left out"),
    ("absent", "left"): ("gone",),
    ("returning", "resent"): ("present",),
    ("returning", "grace over"): ("opening",),
    ("returning", "lagging"): ("returning, left out",),
    ("returning", "left"): ("gone",),
    ("returning, left out", "resent"): ("present, left out",),
    ("returning, left out", "whole"): ("returning",),
    ("returning, left out", "grace over"): ("opening, left out",),
    ("returning, left out", "left"): ("gone",),
    ("opening", "resent"): ("present",),
    ("opening", "lagging"): ("opening, left out",),
    ("opening", "left"): ("gone",),
    ("opening, left out", "resent"): ("present, left out",),
    ("opening, left out", "whole"): ("opening",),
    ("opening, left out", "left"): ("gone",),
    ("present", "lagging"): ("present, left out",),
    ("present", "left"): ("gone",),
    ("present, left out", "whole"): ("present",),
    ("present, left out", "left"): ("gone",),
}
"""A member at a broker, from the election or its first record on."""

HOSTING: Table = {
    ("new", "elected"): ("expecting", "settled"),
    ("expecting", "the last one is back"): ("settled",),
    ("expecting", "the last one is dead"): ("settled",),
    ("expecting", "grace over"): ("settled",),
    ("settled", "one has been with another"): ("expecting",),
    ("expecting", "hands over"): ("over",),
    ("expecting", "steps down"): ("over",),
    ("expecting", "dies"): ("over",),
    ("settled", "hands over"): ("over",),
    ("settled", "steps down"): ("over",),
    ("settled", "dies"): ("over",),
}
"""A broker; settled is one that expects nobody (any more)."""

JOB: Table = {
    ("new", "routed"): ("waiting", "later", "read"),
    ("waiting", "a hand is free"): ("handed out",),
    ("waiting", "reported"): ("read",),
    ("waiting", "done"): ("over",),
    ("waiting", "its group is gone"): ("over",),
    ("later", "all are back"): ("waiting",),
    ("later", "reported"): ("read",),
    ("later", "done"): ("over",),
    ("handed out", "received"): ("read",),
    ("handed out", "reported"): ("handed out",),
    ("handed out", "done"): ("over",),
    ("handed out", "rejected"): ("waiting",),
    ("handed out", "unsubscribed"): ("waiting",),
    ("handed out", "out of touch"): ("waiting",),
    ("handed out", "a member dies"): ("waiting", "over"),
    ("read", "reported"): ("read",),
    ("read", "done"): ("over",),
    ("read", "rejected"): ("waiting", "over"),
    ("read", "unsubscribed"): ("waiting",),
    ("read", "a member dies"): ("waiting", "over"),
}
"""A job at a broker. Later: it was resent, and may be in the hands of one who is not back."""

REQUEST: Table = {
    ("new", "routed"): ("waiting", "later", "read"),
    ("waiting", "a hand is free"): ("handed out",),
    ("waiting", "reported"): ("read",),
    ("waiting", "done"): ("over",),
    ("waiting", "cancelled"): ("over",),
    ("waiting", "its group is gone"): ("waiting", "over"),
    ("waiting", "a member dies"): ("over",),
    ("later", "all are back"): ("waiting",),
    ("later", "reported"): ("read",),
    ("later", "done"): ("over",),
    ("later", "cancelled"): ("over",),
    ("later", "a member dies"): ("over",),
    ("handed out", "received"): ("read",),
    ("handed out", "reported"): ("handed out",),
    ("handed out", "done"): ("over",),
    ("handed out", "unsubscribed"): ("waiting",),
    ("handed out", "out of touch"): ("waiting",),
    ("handed out", "a member dies"): ("over",),
    ("read", "reported"): ("read",),
    ("read", "done"): ("over",),
    ("read", "unsubscribed"): ("waiting",),
    ("read", "a member dies"): ("over",),
}
"""A request to one responder at a broker: done is answered."""

ENTRY: Table = {
    ("waiting", "done"): ("over",),
    ("waiting", "only jobs are left"): ("with groups",),
    ("waiting", "its publisher is gone"): ("over",),
    ("with groups", "done"): ("over",),
    ("with groups", "its publisher is gone"): ("over",),
}
"""A publication at a broker."""

PUBLICATION: Table = {
    ("new", "published"): ("unsent", "sent"),
    ("unsent", "another host"): ("sent",),
    ("unsent", "cancelled"): ("cancelled",),
    ("sent", "another host"): ("sent",),
    ("sent", "cancelled"): ("cancelled",),
    ("sent", "answered"): ("over",),
    ("sent", "only jobs are left"): ("with groups",),
    ("sent", "acknowledged"): ("over",),
    ("with groups", "another host"): ("with groups",),
    ("with groups", "acknowledged"): ("over",),
    ("cancelled", "another host"): ("over",),
    ("cancelled", "answered"): ("over",),
    ("cancelled", "acknowledged"): ("over",),
}
"""A publication at its publisher; a request is answered when it has ended, in whatever way."""

SUBSCRIPTION: Table = {
    ("new", "subscribed"): ("known",),
    ("new", "told again"): ("known",),
    ("new", "told, not confirmed"): ("known",),
    ("known", "unsubscribed"): ("over",),
    ("known", "its member is gone"): ("over",),
}
"""A subscription at a broker; of each kind."""

INTEREST: Table = {
    ("new", "subscribed"): ("asked",),
    ("asked", "confirmed"): ("live",),
    ("asked", "another host"): ("asked",),
    ("asked", "unsubscribed"): ("over",),
    ("live", "another host"): ("live",),
    ("live", "unsubscribed"): ("over",),
}
"""A subscription at its member; of each kind."""

KINDS = ("plain", "blocking", "consumer", "responder")

_NEW = (
    "PUBLISH",
    "MIXED",
    "PUBLISH, REQUEST",
    "PUBLISH, REQUEST, EVERYONE",
    "DIRECT, REQUEST",
    "DIRECT, REPLY",
    "DIRECT, DONE",
)
_NEVER_SENT = tuple(record for record in _NEW if record != "DIRECT, REPLY")
"""... to any host before; who has a request to reply to has been connected."""

_RESENT = (
    "PUBLISH, RESENT",
    "MIXED, RESENT",
    "PUBLISH, RESENT, REQUEST",
    "PUBLISH, RESENT, REQUEST, EVERYONE",
    "DIRECT, RESENT, REQUEST",
    "DIRECT, RESENT, REPLY",
    "DIRECT, RESENT, DONE",
)

HEARD: Mapping[str, tuple[str, ...]] = {
    "new": ("Snapshot",),
    "expected": ("Snapshot",),
    "absent": ("Snapshot",),
    "returning": (*_NEVER_SENT, *_RESENT, "Resent"),
    "opening": (*_NEVER_SENT, *_RESENT, "Resent"),
    "present": (*_NEW, "Subscribe", "Unsubscribe", "Reject", "Took", "Cancel"),
}
"""{where a member stands: the records that a broker takes from it}."""

TOLD = (
    "PUBLISH",
    "PUBLISH, RESENT",
    "MIXED",
    "MIXED, RESENT",
    "MIXED, part",
    "MIXED, RESENT, part",
    "PUBLISH, REQUEST, EVERYONE",
    "PUBLISH, RESENT, REQUEST, EVERYONE",
    "DIRECT, REQUEST",
    "DIRECT, RESENT, REQUEST",
    "DIRECT, REPLY",
    "DIRECT, RESENT, REPLY",
    "DIRECT, DONE",
    "DIRECT, RESENT, DONE",
    "JOB",
    "JOB, again",
    "ACK",
    "Confirmed",
    "Gap",
    "Missed",
    "Lost",
    "Ended",
    "Responders",
    "Roster",
    "Joined",
    "Left",
    "Without",
    "Taking",
)
"""What a broker says to a member."""

ASKED: Mapping[str, tuple[str, ...]] = {
    "one": ("replied", "NOBODY", "DIED", "cancelled"),
    "direct": ("replied", "refused", "GONE", "DIED", "cancelled"),
    "all": ("replied", "refused", "NOBODY", "DIED", "cancelled"),
}
"""{whom a request asks: the ends it can have}."""

_MACHINES: Mapping[str, Table] = {
    "SEAT": SEAT,
    "HOSTING": HOSTING,
    "JOB": JOB,
    "REQUEST": REQUEST,
    "ENTRY": ENTRY,
    "PUBLICATION": PUBLICATION,
    **{f"SUBSCRIPTION, {kind}": SUBSCRIPTION for kind in KINDS},
    **{f"INTEREST, {kind}": INTEREST for kind in KINDS},
}


def steps() -> Iterator[Step]:
    """Every step of every table: the table's name, the state, the event, and the state after it."""
    for name, table in _MACHINES.items():
        for (before, event), after in table.items():
            yield from ((name, before, event, state) for state in after)
    for state, records in HEARD.items():
        yield from (("HEARD", state, record) for record in records)
    yield from (("TOLD", record) for record in TOLD)
    for kind, ends in ASKED.items():
        yield from (("ASKED", kind, end) for end in ends)
    for connection, kinds in states.ACCEPTED.items():
        yield from (("ACCEPTED", connection.value, Kind(kind).name) for kind in kinds - _SHARING)
    yield from _protocol("SESSION", states.SESSION)
    yield from _protocol("SENDING", states.SENDING)
    yield from _protocol("CHANNEL", states.CHANNEL)


def _protocol(name: str, table: Mapping[tuple[_State, _Event], _State]) -> Iterator[Step]:
    for (before, event), after in table.items():
        yield name, before.value, event.value, after.value


# Memory is shared by processes, below all that is played here.
_SHARING = {Kind.OFFER, Kind.TAKEN, Kind.WITHDRAWN, Kind.HOLDING}

TABLES: frozenset[Step] = frozenset(steps())
