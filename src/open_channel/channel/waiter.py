"""A waiter: what a task awaits until its socket has something for it.

It does what ``asyncio.Future`` does, but for one thing: when it is woken by the event loop itself
(a socket became readable), the task goes on at once, inside that same turn of the loop, instead of
in the next. A round trip then takes one turn on each side, as with bare protocol callbacks: it was
48 us and is 30 us on one core, and where the scheduler is free to choose, two processes that go to
sleep right after each write stay on one core, which is worth more than all the rest.

The interface that a task needs of what it awaits is the one of PEP 3156 and of asyncio's own
``isfuture()``: ``_asyncio_future_blocking``, ``get_loop()``, ``add_done_callback()``, ``result()``
and ``cancel()``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

__all__ = ["Waiter", "Waiters"]


class Waiter:
    """Awaited by one task, once; woken or cancelled, whichever comes first."""

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_context",
        "_done",
        "_loop",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._done = False
        self._cancelled: tuple[object, ...] | None = None
        """What the CancelledError is to be made of."""

    def __await__(self) -> Generator[Waiter, None, None]:
        """Wait; cancellation is raised by ``result()``, which the task calls."""
        if not self._done:
            self._asyncio_future_blocking = True
            yield self

    def wake(self, *, now: bool = False) -> None:
        """Let the task go on: in the loop's next turn, or ``now``, which no task may ask for."""
        if self._done:
            return
        self._done = True
        if self._callback is None:
            return
        if not now:
            self._loop.call_soon(self._callback, self, context=self._context)
        elif self._context is None:
            self._callback(self)
        else:
            self._context.run(self._callback, self)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop it belongs to."""
        return self._loop

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None:
        """Called by the task that waits."""
        self._callback = callback
        self._context = context

    def result(self) -> None:
        """Called by the task when it goes on."""
        if self._cancelled is not None:
            raise asyncio.CancelledError(*self._cancelled)

    def cancel(self, msg: object = None) -> bool:
        """Called by the task when it is cancelled; False when it has been woken already.

        By the message, anyio knows the cancellations of its own scopes.
        """
        if self._done:
            return False
        self._done = True
        self._cancelled = () if msg is None else (msg,)
        if self._callback is not None:
            self._loop.call_soon(self._callback, self, context=self._context)
        return True


class Waiters:
    """The tasks that wait for one thing.

    One that is cancelled is forgotten at once: what is asked for again and again under a timeout
    may be long in coming.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        self.waiting: dict[Waiter, None] = {}
        """Who waits, in the order in which they began to."""

    async def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait to be woken. Can be cancelled."""
        waiter = Waiter(loop)
        self.waiting[waiter] = None
        try:
            await waiter
        finally:
            self.waiting.pop(waiter, None)

    def wake(self, *, now: bool = False) -> None:
        """Let all of them go on: see ``Waiter.wake()``."""
        waiting, self.waiting = self.waiting, {}  # first: who is woken may wait again at once
        for waiter in waiting:
            waiter.wake(now=now)
