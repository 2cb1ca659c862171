"""The delays between tries: the only place that knows how retries are spaced.

Retries happen only while something is wrong (nobody hosts, the dead host's lock is not free yet, a
backlog is full). The first come quickly, since the kernel needs a fraction of a millisecond, at
worst a few, to release what a dead process held; then they grow by half, so that whoever waits
adds no more than that to what it waited for.
"""

from __future__ import annotations

__all__ = ["LONGEST_WAIT", "Backoff"]

_GROWTH = 1.5

LONGEST_WAIT = 0.1
"""Where the growing ends, in seconds, if nothing else is said."""


class Backoff:
    """0.2 ms, 0.3 ms, ... up to ``cap`` seconds, each spread by half to part the many."""

    __slots__ = ("_cap", "_delay", "_first")

    def __init__(self, first: float = 0.0002, cap: float = LONGEST_WAIT) -> None:
        self._first = first
        self._cap = cap
        self._delay = first

    def next(self, chance: float) -> float:
        """The next delay in seconds; ``chance`` is a random number from 0 to 1."""
        delay = self._delay * (0.5 + chance)
        self._delay = min(self._cap, self._delay * _GROWTH)
        return delay

    def reset(self) -> None:
        """Things went well: begin anew."""
        self._delay = self._first
