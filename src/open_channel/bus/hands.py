"""In whose hand a job is: what a consumer took last is done when it asks for more."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from open_channel.bus.message import Job

__all__ = ["Given", "Hand", "Hands", "Iteration"]


class Hand:
    """What one consumer took last: a task, or a thread."""

    __slots__ = ("_jobs",)

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def put(self, job: Job) -> None:
        """It has taken that, or an iteration of its own has ended with that in its hand."""
        self._jobs.append(job)

    def finished(self) -> list[Job]:
        """What is done now that this consumer asks for more; its hand is empty then."""
        jobs, self._jobs = self._jobs, []
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
        for job in super().finished():
            self._consumer.put(job)


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


class Given:
    """The jobs that one subscription has been given and that have no end yet.

    The loop gives them and takes them back, while threads take and finish them, and signal handlers
    do so in the midst of that. So nobody waits for anybody: to take a job out of a deque, or of a
    set, is one step of the interpreter's, and one of those who try has done it.
    """

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()  # to be taken
        self._in_hand: set[Job] = set()  # whose end nobody has told, whether they were taken or not
        self._by_key: dict[tuple[bytes, int], Job] = {}  # the loop's own

    def __contains__(self, job: Job) -> bool:
        return job in self._in_hand

    def put(self, job: Job) -> None:
        """In the loop: it was given to this subscription."""
        self._by_key[job.key] = job
        self._in_hand.add(job)
        self._waiting.append(job)

    def take(self) -> Job | None:
        """The next one to work on."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def finish(self, job: Job) -> bool:
        """Whether nobody has told its end before."""
        try:
            self._in_hand.remove(job)
        except KeyError:
            return False
        return True

    def finished(self, job: Job) -> None:
        """In the loop: its end was told."""
        if self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def lose(self, key: tuple[bytes, int]) -> None:
        """In the loop: another consumer has it."""
        job = self._by_key.pop(key, None)
        if job is not None:
            job.lost = True  # before it is in hand no more: whoever finds that looks at this
            self._in_hand.discard(job)
            with contextlib.suppress(ValueError):  # it was taken
                self._waiting.remove(job)

    def lose_all(self) -> None:
        """In the loop: others get them."""
        for job in self._by_key.values():
            if job in self._in_hand:
                job.lost = True
        self._in_hand.clear()
        self._by_key.clear()

    def take_no_more(self) -> None:
        """What was not taken yet never will be."""
        self._waiting.clear()
