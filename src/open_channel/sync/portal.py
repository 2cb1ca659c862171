"""The way from any thread into the background thread's event loop and back."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from open_channel.arguments import check_timeout
from open_channel.errors import WaitTimeout
from open_channel.io.background import background_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["THE_END", "bound", "call", "frozen", "leaving", "run"]

THE_END = "the end of the channel"
"""What closing waits for."""

_LEAVING = 10.0  # seconds beyond its own timeout that closing may take: see leaving()
_TURN = 1.0  # seconds that the loop may take to say that a timeout has passed

_Result = TypeVar("_Result")


def frozen() -> bool:
    """Whether the interpreter ends, and has closed all channels: the loop's thread stands still.

    Whoever closes what he has, in a ``__del__`` or a generator's ``finally``, has nothing to do.
    """
    return sys.is_finalizing()


def bound(timeout: float | None) -> float | None:
    """A timeout as it can be waited for; None for ever. Raises ValueError for one below zero."""
    check_timeout(timeout)
    return timeout if timeout is not None and timeout < threading.TIMEOUT_MAX / 2 else None


def leaving(timeout: float | None) -> float | None:
    """How long closing with this timeout may take in all: a hosting is handed over in less."""
    return None if timeout is None else timeout + _LEAVING


def call(function: Callable[[], _Result]) -> _Result:
    """Call a function in the loop; return what it returns, raise what it raises."""

    async def coroutine() -> _Result:
        return function()

    return run(coroutine(), None, "")


def run(coroutine: Coroutine[Any, Any, _Result], timeout: float | None, what: str) -> _Result:
    """Run a coroutine in the loop and wait for it.

    Raises WaitTimeout, naming ``what`` was waited for, when ``timeout`` seconds pass first; the
    coroutine is cancelled then. What need not wait returns with a timeout of 0 too. Raises
    ValueError for a timeout below zero, NoThread when the loop has no thread, and RuntimeError when
    the interpreter ends.
    """
    try:
        seconds = bound(timeout)
        if frozen():
            raise RuntimeError("the interpreter ends, and its channels are closed")
        loop = background_loop()
    except BaseException:
        coroutine.close()
        raise
    patience = None
    if seconds is not None:
        coroutine, patience = _within(coroutine, seconds, what), seconds + _TURN
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result(patience)
    except concurrent.futures.TimeoutError:
        if future.done():  # the coroutine's own: the two classes are one since Python 3.11
            raise
        future.cancel()
        raise WaitTimeout(what=what, timeout=timeout) from None
    except BaseException:
        future.cancel()
        raise


async def _within(coroutine: Coroutine[Any, Any, _Result], seconds: float, what: str) -> _Result:
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await coroutine
    except TimeoutError:
        if scope.expired():
            raise WaitTimeout(what=what, timeout=seconds) from None
        raise
