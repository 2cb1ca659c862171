"""How a writer judges what comes back: its numbers, once or again, and in which order.

What is promised, and so what is checked: each number comes back; within one conversation (one
host's listener with this writer) the numbers follow one another without a gap; a new conversation
begins no later than with the first number that is still missing; and what comes back a second time
was marked for the listener as redelivered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Tally"]


@dataclass(slots=True)
class Tally:
    """What one writer has sent and heard."""

    sent: int = 0
    received: int = 0
    """Distinct numbers that came back."""
    redelivered: int = 0
    """Numbers that came back again."""
    unmarked: int = 0
    """... though the listener was not told that they might."""
    misordered: int = 0
    """Echoes that were not the one that had to come next."""
    conversation: tuple[int, int] = (0, 0)
    """The host's process id, and its own count of its conversations."""
    _next: int = 0  # every lower number has come back, but for the missing ones
    _following: int = 0  # what follows in this conversation
    _missing: set[int] = field(default_factory=set[int])
    _over: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])

    @property
    def complete(self) -> bool:
        """Whether all that was sent has come back."""
        return self.received == self.sent

    def hear(self, conversation: tuple[int, int], number: int, *, marked: bool) -> bool:
        """Count one echo; returns whether it is the first of a conversation."""
        begins = conversation != self.conversation
        if begins:
            self._begin(conversation, number)
        if number != self._following:
            self.misordered += 1
        self._following = number + 1
        if number == self._next:
            self._next += 1
            self.received += 1
        elif number > self._next:
            self._missing.update(range(self._next, number))
            self._next = number + 1
            self.received += 1
        elif number in self._missing:
            self._missing.discard(number)
            self.received += 1
        else:
            self.redelivered += 1
            self.unmarked += not marked
        return begins

    def _begin(self, conversation: tuple[int, int], number: int) -> None:
        self._over.add(self.conversation)
        self.conversation = conversation
        # A conversation that goes on after the next one began is out of order altogether.
        self._following = -1 if conversation in self._over else min(number, self._next)
