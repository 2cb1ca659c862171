"""How a subscriber judges what arrives: each publisher's numbers, once and in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """What one subscriber has received; every publisher numbers from 0 on."""

    delivered: int = 0
    """Distinct messages."""
    duplicated: int = 0
    """Messages that came again."""
    misordered: int = 0
    """Messages that came after a later one of the same publisher."""
    _streams: dict[bytes, _Stream] = field(default_factory=dict[bytes, "_Stream"])

    def take(self, publisher: bytes, numbers: Sequence[int]) -> None:
        """Count messages of one publisher."""
        stream = self._streams.get(publisher)
        if stream is None:
            stream = self._streams[publisher] = _Stream()
        # The usual case at once: a subscriber that counts slowly would slow the publishers down.
        following = range(stream.next, stream.next + len(numbers))
        if all(map(int.__eq__, numbers, following)):
            stream.next = following.stop
            self.delivered += len(numbers)
            return
        for number in numbers:
            self._take(stream, number)

    def _take(self, stream: _Stream, number: int) -> None:
        if number >= stream.next:
            stream.missing.update(range(stream.next, number))
            stream.next = number + 1
            self.delivered += 1
        elif number in stream.missing:
            stream.missing.discard(number)
            self.delivered += 1
            self.misordered += 1
        else:
            self.duplicated += 1


@dataclass(slots=True)
class _Stream:
    """What has come of one publisher."""

    next: int = 0
    """Every lower number has come, but for the missing ones."""
    missing: set[int] = field(default_factory=set[int])
