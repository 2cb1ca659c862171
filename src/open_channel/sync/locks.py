"""Blocking locks and leadership: those of ``open_channel.bus.locks``, without an event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from open_channel.io.locks import NamedLock
from open_channel.sync import portal
from open_channel.sync.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


__all__ = ["Lock", "lead"]

_log = logging.getLogger("open_channel")

_Result = TypeVar("_Result")


class Lock(NamedLock):
    """A lock by name, for all processes of the channel; ``with`` acquires and releases it.

    See ``open_channel.bus.locks.Lock``. It belongs to no thread: another may release it.
    """

    def acquire(self) -> None:
        """Wait for the lock; raises what the asyncio lock's ``acquire()`` raises."""
        bell = Bell()
        claim = self._claim_for(bell.ring)
        try:
            self._begin(claim)
            if claim.waiting:
                bell.wait_for(lambda: not claim.waiting or None, portal.bound(self._timeout))
            self._conclude(claim)
        except BaseException:  # also KeyboardInterrupt, which may come at any point of these
            self._forget(claim)
            raise

    def __enter__(self) -> Self:
        """Acquire it."""
        try:
            self.acquire()
            return self
        except BaseException:
            self.release()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release it."""
        self.release()


def lead(lock: Lock, run: Callable[[], _Result]) -> _Result:
    """Wait until this process has the lock, and leads; then return what ``run()`` returns.

    See ``open_channel.bus.locks.lead()``; ``run`` is a plain function, called in this thread.
    """
    with lock:
        _log.info("%s: this process leads %r", lock.channel, lock.name)
        try:
            return run()
        finally:
            _log.info("%s: this process leads %r no more", lock.channel, lock.name)
