"""Who has come: told to those who are here, and only then is a newcomer told who is here.

Its user takes it for a member from then on, and so may everybody else: what was written to the
others stays readable when the host dies in the next moment, and so does that it has come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from open_channel.bus.core import records as r

if TYPE_CHECKING:
    from collections.abc import Iterable

    from open_channel.bus.core.seat import Seat

__all__ = ["News"]

_EACH = 0.0005
_LONGEST = 0.05
"""Seconds, for each member and at most, between two times that all are told. Of 200 that start at
once each would else wake up 200 times: they took 2.1 s to join, and more than the 5 they have on a
busy machine."""
_NEVER = float("inf")


class News:
    """What one broker's members have not been told yet."""

    __slots__ = ("_dirty", "_lineage", "_seats", "_told", "due", "newcomers", "whole")

    def __init__(self, seats: dict[bytes, Seat], dirty: dict[Seat, None], lineage: int) -> None:
        self._seats = seats
        self._dirty = dirty
        self._lineage = lineage
        self._told = -_NEVER
        self.whole = True
        """Whether all who are here have files that tell a next host of them: see ``Roster``."""
        self.newcomers: dict[Seat, None] = {}
        self.due = _NEVER
        """When it is to be told."""

    def add(self, seat: Seat) -> None:
        """A member has come."""
        self.newcomers[seat] = None
        self.due = min(self.due, self._told + min(_LONGEST, _EACH * len(self._seats)))

    def tell(self, now: float) -> None:
        """Tell the others, then the newcomers: they are the last to be written to."""
        newcomers, self.newcomers = self.newcomers, {}
        self.due = _NEVER
        joined = [r.encode_control(r.Joined(seat.info)) for seat in newcomers]
        others = [seat for seat in self._seats.values() if seat not in newcomers]
        for seat in others:
            if seat.outbox is not None:
                self._told = now  # somebody is woken by it
            self._dirty[seat] = None
            for record in joined:
                seat.send(record, now)
        for seat in newcomers:
            self._dirty.pop(seat, None)
        self._tell_roster(newcomers, now)

    def now_whole(self, whole: bool, now: float) -> None:
        """Tell everybody who has a session what the rosters are worth, if that is another."""
        if self.whole != whole:
            self.whole = whole
            seats = self._seats.values()
            here = [seat for seat in seats if seat.outbox is not None]
            self._tell_roster([seat for seat in here if seat not in self.newcomers], now)

    def _tell_roster(self, seats: Iterable[Seat], now: float) -> None:
        roster = r.encode_control(self.roster())
        for seat in seats:
            self._dirty[seat] = None
            seat.send(roster, now)

    def roster(self) -> r.Roster:
        """Who is here."""
        members = [seat.info for seat in self._seats.values()]
        return r.Roster(members, self._lineage if self.whole else 0)
