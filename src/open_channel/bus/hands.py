"""In whose hand a job is: what a consumer took last is done when it asks for more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_channel.bus.message import Job

__all__ = ["Hand", "Hands", "Iteration"]


class Hand:
    """What one consumer took last: a task, or a thread."""

    __slots__ = ("_left", "job")

    def __init__(self) -> None:
        self.job: Job | None = None
        self._left: list[Job] = []

    def leave(self, job: Job) -> None:
        """An iteration of this consumer's has ended with that in its hand."""
        self._left.append(job)

    def finished(self) -> list[Job]:
        """What is done now that this consumer asks for more; its hand is empty then."""
        jobs, self._left = self._left, []
        if self.job is not None:
            jobs.append(self.job)
            self.job = None
        return jobs


class Iteration(Hand):
    """The hand of one iteration: several of one consumer do not finish each other's jobs."""

    __slots__ = ("_consumer",)

    def __init__(self, consumer: Hand) -> None:
        super().__init__()
        self._consumer = consumer

    def finished(self) -> list[Job]:
        """See ``Hand``; what its consumer has in its own hand is done too."""
        return self._consumer.finished() + super().finished()

    def __del__(self) -> None:
        """Left by ``break``, as mostly: its consumer has the job, and may ask for more."""
        if self.job is not None:
            self._consumer.leave(self.job)


class Hands:
    """The hands of the tasks of one loop."""

    def __init__(self) -> None:
        self._of: dict[asyncio.Task[Any] | None, Hand] = {}

    def mine(self) -> Hand:
        """That of the task that runs."""
        task = asyncio.current_task()
        hand = self._of.get(task)
        if hand is None:
            hand = self._of[task] = Hand()
        return hand

    def left(self) -> list[Job]:
        """What tasks had in hand that have come to their end: done as well.

        ``asyncio.wait_for(mine())`` of Python 3.11 runs ``mine()`` in a task of its own; if that
        gets a job, whoever works on it has no hand that knows of it. What a task had that was
        cancelled, or failed, is not done: it stays until the subscription ends.
        """
        if len(self._of) < 2:  # as mostly
            return []
        over = [task for task in self._of if task is not None and task.done()]
        hands = [(task, self._of.pop(task)) for task in over]
        return [job for task, hand in hands if _went_well(task) for job in hand.finished()]


def _went_well(task: asyncio.Task[Any]) -> bool:
    # Not by exception(): whoever asks for it makes asyncio keep silent about it.
    return not task.cancelled() and getattr(task, "_exception", None) is None
