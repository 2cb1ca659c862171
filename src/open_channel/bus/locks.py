"""Locks and leadership for asyncio: the kernel's locks, with no broker and no connection.

Who waits is woken by the holder's release or death. A blocked or stopped holder keeps its lock:
nobody takes it away.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any, TypeVar, overload

from open_channel.io.locks import NamedLock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self


__all__ = ["Lock", "lead"]

_log = logging.getLogger("open_channel")

_Result = TypeVar("_Result")


class Lock(NamedLock):
    """A lock by name, for all processes of the channel; ``async with`` acquires and releases it.

    ``timeout`` bounds each ``acquire()``, in seconds: None waits for ever, 0 tries once. Of those
    who wait in one process the first to come is the first to get it; which process is next, the
    kernel decides. An object holds it once: it is not reentrant, and another object of the same
    name excludes it.

    Raises NameInvalid for a name that is empty, no str, not printable, or over 4096 bytes of UTF-8,
    and ValueError for a timeout below zero.
    """

    async def acquire(self) -> None:
        """Wait for the lock.

        Raises WaitTimeout when the timeout passes first, ChannelClosed when the channel is closed,
        RuntimeError when this object holds or awaits it already, NameCollision when another name in
        use shares its file name, and ChannelError when the file cannot be made or locked. Can be
        cancelled: nothing is held then.
        """
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        claim = self._claim_for(lambda: loop.call_soon_threadsafe(_wake, woken))
        timer: asyncio.TimerHandle | None = None
        try:
            self._begin(claim)
            if claim.waiting:
                if self._timeout is not None:
                    timer = loop.call_later(self._timeout, _wake, woken)
                await woken
            self._conclude(claim)
        except BaseException:
            self._forget(claim)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def __aenter__(self) -> Self:
        """Acquire it."""
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release it."""
        self.release()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


@overload
async def lead(lock: Lock, run: Callable[[], Awaitable[_Result]]) -> _Result: ...
@overload
async def lead(lock: Lock, run: Callable[[], Awaitable[_Result] | _Result]) -> _Result: ...
async def lead(lock: Lock, run: Callable[[], Any]) -> Any:
    """Wait until this process has the lock, and leads; then return what ``run()`` returns.

    One process at a time leads under a name; when it dies, or its ``run()`` ends, another does.
    ``run`` is a coroutine function, or a plain one, which runs in the event loop.

    Raises what ``run()`` raises, and what ``Lock.acquire()`` raises but for a timeout. Can be
    cancelled: ``run()`` is cancelled then, and nothing is held.
    """
    async with lock:
        _log.info("%s: this process leads %r", lock.channel, lock.name)
        try:
            result = run()
            return await result if inspect.isawaitable(result) else result
        finally:
            _log.info("%s: this process leads %r no more", lock.channel, lock.name)
