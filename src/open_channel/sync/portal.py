"""The way from any thread into the background thread's event loop and back."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, TypeVar

from open_channel.errors import WaitTimeout
from open_channel.io.background import background_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

__all__ = ["LEAVING", "call", "run"]

LEAVING = 10.0
"""Seconds beyond its own timeout that closing may take: a hosting is handed over in less."""

_Result = TypeVar("_Result")


def call(function: Callable[[], _Result]) -> _Result:
    """Call a function in the loop; return what it returns, raise what it raises."""

    async def coroutine() -> _Result:
        return function()

    return run(coroutine(), None, "")


def run(coroutine: Coroutine[Any, Any, _Result], timeout: float | None, what: str) -> _Result:
    """Run a coroutine in the loop and wait for it.

    Raises WaitTimeout, naming ``what`` was waited for, when ``timeout`` seconds pass first; the
    coroutine is cancelled then.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, background_loop())
    try:
        return future.result(timeout)
    except concurrent.futures.TimeoutError:
        if future.done():  # the coroutine's own: the two classes are one since Python 3.11
            raise
        future.cancel()
        raise WaitTimeout(what=what, timeout=timeout) from None
    except BaseException:
        future.cancel()
        raise
