"""Liveness: when a silent host is busy, and when it is hung.

A host says something at least once in an interval. A member that hears nothing looks at the
host's *pulse*, a number that a second thread of the hosting process raises in the same rhythm: a
process that is stopped, or whose interpreter is held by a C call, shows neither; one whose event
loop is merely busy shows a pulse. And a member that was itself stopped or busy hears nothing
either, so a check that comes late begins anew.

A heartbeat that comes is a check of its own: it puts the next one off, so that no timer fires in a
member whose host is well and which does nothing.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MISSED", "Verdict", "Watchdog"]


MISSED = 3
"""A host whose heartbeat is slower than ours must have missed this many to be taken for hung."""

_GRACE = 1.1  # intervals: a heartbeat that is a little late still puts the check off


class Verdict(Enum):
    """What a member thinks of its host."""

    WELL = "well"
    BUSY = "busy"
    SILENT = "silent"
    HUNG = "hung"


class Watchdog:
    """Watches one host; ``check()`` is to be called at ``deadline``, and at a heartbeat."""

    __slots__ = ("_activity", "_grace", "_interval", "_pulse", "_since", "_timeout", "deadline")

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval = interval
        # Less than the timeout: the first look at the pulse is never the last.
        self._grace = min(_GRACE * interval, (interval + timeout) / 2)
        self._timeout = timeout
        self._activity = -1
        self._pulse: int | None = None
        self._since = now
        self.deadline = now + self._grace
        """When to check next, in seconds of the caller's clock."""

    @property
    def since(self) -> float:
        """When the host last gave a sign of life."""
        return self._since

    def check(self, now: float, activity: int, pulse: Callable[[], int | None]) -> Verdict:
        """Judge: ``activity`` is any number that changes with what is heard.

        ``pulse`` is only called when nothing was heard; it returns None where there is none to
        be seen.
        """
        late = now - self.deadline > self._interval / 2
        if late or activity != self._activity:
            self._activity = activity
            self._pulse = None
            self._since = now
            self.deadline = now + self._grace
            return Verdict.WELL
        self.deadline = now + self._interval
        seen = pulse()
        if seen is not None and seen != self._pulse:
            first = self._pulse is None
            self._pulse = seen
            if not first:
                self._since = now
                return Verdict.BUSY
        return Verdict.HUNG if now - self._since >= self._timeout else Verdict.SILENT
