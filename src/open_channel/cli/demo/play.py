"""What the processes of the demonstration do, and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

__all__ = ["CANDIDATE", "Play", "Row", "count"]

CANDIDATE = "candidate"
"""The role of those who stand for host, in every play."""


class Row(NamedTuple):
    """A line of the closing table."""

    label: str
    value: int
    meaning: str


class Play(ABC):
    """One play: its roles, and the counts that its processes report."""

    name: ClassVar[str]
    """By which ``worker`` knows it."""
    service: ClassVar[str]
    """The letter of the service whose host is killed."""
    audience: ClassVar[str]
    """The role of those who must hear from each new host."""
    leaving: ClassVar[tuple[str, ...]]
    """The roles that are told to finish, one after the other."""
    labels: ClassVar[tuple[str, str]]
    """What ``sent`` and ``received`` are called."""
    pause: ClassVar[str]
    """What a takeover's pause is."""
    praise: ClassVar[str]
    """What is said when it is clean."""

    def __init__(self) -> None:
        self.counts: dict[int, dict[str, int]] = {}
        """{process id: what it has counted}."""

    def total(self, name: str) -> int:
        """The sum of one count over all processes."""
        return sum(counts.get(name, 0) for counts in self.counts.values())

    @property
    @abstractmethod
    def stages(self) -> tuple[dict[str, int], ...]:
        """{role: how many}; the processes of each stage start when all of the one before are
        ready.
        """

    @property
    def candidates(self) -> int:
        """How many stand for host."""
        return self.stages[0][CANDIDATE]

    @property
    @abstractmethod
    def sent(self) -> int:
        """How many messages were written or published."""

    @property
    @abstractmethod
    def received(self) -> int:
        """How many arrived where they had to; those of the display's rate."""

    @property
    @abstractmethod
    def clean(self) -> bool:
        """Whether all that was promised was kept."""

    @abstractmethod
    def heading(self) -> str:
        """Who takes part, besides those who stand for host."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """The counts of the closing table."""


def count(number: int, thing: str) -> str:
    """``1 writer``, ``2 writers``."""
    return f"{number} {thing}{'s'[: number != 1]}"
