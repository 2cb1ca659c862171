"""What is known of the demonstration at a moment."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from open_channel.cli.demo.play import Play
    from open_channel.protocol.records import HostRecord

__all__ = ["Demo", "Settings", "Takeover"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asked for; times in seconds."""

    seconds: float
    every: float
    directory: Path | None = None


@dataclass(slots=True)
class Takeover:
    """One kill, and what followed."""

    after: float
    """Seconds from the beginning of the demonstration."""
    killed: int
    """The process id of the host that was killed."""
    at: int
    """When, in ns of the monotonic clock."""
    waiting: set[int]
    """Who of the audience has not heard from the next host."""
    host: int = 0
    """The process id of the next host; 0 until it is heard."""
    heard: int = 0
    """When the last of the audience first heard from the next host, in ns."""

    @property
    def pause(self) -> float | None:
        """Seconds from the kill until all have heard from the next host; None until then."""
        return None if self.waiting else (self.heard - self.at) / 1e9


@dataclass(slots=True)
class Demo:
    """What the supervisor knows; the views show it."""

    settings: Settings
    play: Play
    directory: str
    begun: float = 0.0
    """When the audience had heard from the first host; in seconds of the monotonic clock."""
    host: HostRecord | None = None
    takeovers: list[Takeover] = field(default_factory=list[Takeover])
    ready: set[int] = field(default_factory=set[int])
    """Those that are connected; of the candidates, those that can take over."""
    heard: set[int] = field(default_factory=set[int])
    """Who of the audience has heard from a host at all."""
    done: set[int] = field(default_factory=set[int])
    """Those that have reported for the last time."""

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning; 0 before it."""
        return time.monotonic() - self.begun if self.begun else 0.0

    @property
    def pauses(self) -> list[float]:
        """The pauses of the takeovers that are over, in seconds."""
        return [takeover.pause for takeover in self.takeovers if takeover.pause is not None]

    @property
    def median_pause(self) -> float:
        """In seconds; 0 without a takeover."""
        return statistics.median(self.pauses or [0.0])

    @property
    def settled(self) -> bool:
        """Whether all have heard from the present host."""
        return not self.takeovers or not self.takeovers[-1].waiting
