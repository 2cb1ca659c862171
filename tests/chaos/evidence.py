"""What a chaos run leaves for the judgement: a witness for each process, and what is held against.

Nothing here knows processes: a test can make up a witness, and see that it is judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["IN_TOUCH", "KINDS", "SETTLES", "Run", "Violation", "Witness"]

IN_TOUCH = 0.6
"""The share of the lag for which a process may be away and is in touch for certain."""

SETTLES = 5.0
"""Seconds in which what was closed must be gone."""

KINDS = {
    "lost": "messages that a subscriber in touch did not get",
    "silent": "losses that a subscriber out of touch was not told",
    "double": "messages got twice",
    "disorder": "messages out of order",
    "miscounted": "losses told in a wrong number",
    "job lost": "jobs that nobody did",
    "job twice": "jobs done by two that were in touch",
    "request": "requests with a wrong end, or handled twice",
    "lock": "two holders of one lock",
    "leader": "two leaders at once, or none for long",
    "listener": "messages to a listener lost, or repeated unmarked",
    "hung": "calls, and processes, that did not end in time",
    "error": "errors that nobody expected",
    "leak": "sockets, threads, tasks, files left open after closing",
    "memory": "processes that grew beyond the bound",
    "file": "files left in the channel's directory",
    "idle": "what happened too seldom to prove anything",
}
"""What can be held against a run."""

Entries = list[list[Any]]


class Violation(NamedTuple):
    """One thing that must not be."""

    kind: str
    text: str
    at: float
    who: tuple[str, ...]


@dataclass
class Witness:
    """What is known of one process: what it wrote down, and what befell it."""

    name: str
    role: str
    notes: dict[str, Entries] = field(default_factory=dict)
    stays: bool = False
    killed: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    """When it did not run, or its event loop did not."""
    _away: dict[float, list[tuple[float, float]]] = field(default_factory=dict)

    def of(self, *kinds: str) -> Entries:
        return [entry for kind in kinds for entry in self.notes.get(kind, [])]

    def first(self, kind: str) -> float:
        """When it wrote such a note for the first time; for ever later if it never did."""
        entries = self.notes.get(kind)
        return float(entries[0][-1]) if entries else float("inf")

    @property
    def id(self) -> str:
        opened = self.notes.get("opened")
        return str(opened[0][0]) if opened else ""

    @property
    def alive(self) -> bool:
        """Whether it came to a good end: nobody killed it."""
        return self.killed is None

    def away(self, longer: float) -> list[tuple[float, float]]:
        """The times for which it was out of touch; short ones in a row count as one."""
        if longer not in self._away:  # asked for each request
            self._away[longer] = self._merge_outages(longer)
        return self._away[longer]

    def _merge_outages(self, longer: float) -> list[tuple[float, float]]:
        merged: list[tuple[float, float]] = []
        for begin, end in sorted(self.outages):
            if merged and begin - merged[-1][1] < longer / 4:
                merged[-1] = merged[-1][0], max(merged[-1][1], end)
            else:
                merged.append((begin, end))
        return [(begin, end) for begin, end in merged if end - begin > longer]


@dataclass
class Run:
    """All of a run's witnesses, and what was done to them."""

    witnesses: list[Witness]
    lag: float
    begin: float = 0.0
    end: float = float("inf")
    """When calm came."""
    deleted: list[tuple[float, float]] = field(default_factory=list)
    """When the directory was: from and to, since that takes its time."""

    @property
    def patience(self) -> float:
        return self.lag * IN_TOUCH

    def of(self, *roles: str) -> list[Witness]:
        return [witness for witness in self.witnesses if witness.role in roles]

    def was_away(self, witness: Witness, begin: float, end: float) -> bool:
        """Whether it was out of touch then, or so shortly before or after that it matters."""
        near = 2 * self.lag
        return any(
            begin - near < until and since < end + near
            for since, until in witness.away(self.patience)
        )

    def in_touch(self, witness: Witness) -> bool:
        """Whether it was in touch as long as it was there."""
        return not witness.away(self.patience)


def first_of(entries: Iterable[list[Any]], default: float) -> float:
    return min((float(entry[-1]) for entry in entries), default=default)
