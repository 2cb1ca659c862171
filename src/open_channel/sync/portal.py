"""The way from any thread into the background thread's event loop and back.

The loop never waits for a thread that waits for it: a signal handler may ask for something in the
midst of another call of its thread, and what that call holds at this moment it holds until the
handler has its answer. So what is handed over is a plain lock, which the loop releases, and no
``concurrent.futures.Future``, whose condition both sides acquire.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import CancelledError
from functools import partial, wraps
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from open_channel.arguments import check_timeout
from open_channel.errors import NoThread, WaitTimeout
from open_channel.io.background import background_loop, background_runs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["THE_END", "bound", "call", "closes", "frozen", "leaving", "run"]

THE_END = "the end of the channel"
"""What closing waits for."""

_LEAVING = 10.0  # seconds beyond its own timeout that closing may take: see leaving()
_TURN = 1.0  # seconds that the loop may take to say that a timeout has passed

_OURS = (
    "a blocking call in the library's own thread, which would wait for itself: "
    "in a finalizer that ran there, or a log handler"
)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Closing = TypeVar("_Closing", bound="_Closes")


def frozen() -> bool:
    """Whether the interpreter ends, and has closed all channels: the loop's thread stands still.

    Whoever closes what he has, in a ``__del__`` or a generator's ``finally``, has nothing to do.
    """
    return sys.is_finalizing()


def _ours() -> bool:
    """Whether this is the loop's own thread.

    The garbage collector runs finalizers in whatever thread it is due in.
    """
    return background_runs() and asyncio._get_running_loop() is background_loop()


class _Closes(Protocol):
    def let_go(self) -> None:
        """Have it closed without waiting for anything; again is harmless."""


def closes(
    close: Callable[Concatenate[_Closing, _Arguments], None],
) -> Callable[Concatenate[_Closing, _Arguments], None]:
    """What closes something: once it has begun, that is closed, whatever is raised.

    A signal handler may raise before anything is done. It can be called in the loop's own thread,
    too: another thread does it then, and nobody waits.
    """

    @wraps(close)
    def closing(
        closed: _Closing, /, *arguments: _Arguments.args, **options: _Arguments.kwargs
    ) -> None:
        try:
            if _ours():
                what = partial(close, closed, *arguments, **options)
                threading.Thread(target=what, daemon=True).start()
            else:
                close(closed, *arguments, **options)
        except BaseException:
            closed.let_go()
            raise

    return closing


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

    return run(coroutine, None, "")


def run(function: Callable[[], Awaitable[_Result]], timeout: float | None, what: str) -> _Result:
    """Call a function in the loop, and wait for what it returns there.

    Raises WaitTimeout, naming ``what`` was waited for, when ``timeout`` seconds pass first; it is
    cancelled then. What need not wait returns with a timeout of 0 too. Raises ValueError for a
    timeout below zero, NoThread when the loop has no thread, or this is that thread, and
    RuntimeError when the interpreter ends.

    When a signal handler raises meanwhile it is cancelled too, where it waits for something: what
    comes before that has happened by then, or never will. So nothing that this thread does next
    comes before it, and what was to be closed is.
    """
    seconds = bound(timeout)
    if frozen():
        raise RuntimeError("the interpreter ends, and its channels are closed")
    if _ours():
        raise NoThread(reason=_OURS)
    loop = background_loop()
    patience = -1.0
    if seconds is not None:
        function, patience = partial(_within, function, seconds, what), seconds + _TURN
    call = _Call(function, loop)
    try:
        loop.call_soon_threadsafe(call.start)
        if not call.done.acquire(timeout=patience):
            raise WaitTimeout(what=what, timeout=timeout)
    except BaseException:
        call.cancel()
        raise
    return call.result()


class _Call(Generic[_Result]):
    """A function that is called in the loop, as a thread sees it.

    Its coroutine is made there: one that was made before might never be awaited.
    """

    def __init__(
        self, function: Callable[[], Awaitable[_Result]], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._function = function
        self._loop = loop
        self._ended = False
        self._task: asyncio.Task[_Result] | None = None
        self._value: _Result | None = None
        self._failure: BaseException | None = None
        self.done = threading.Lock()
        """Released when there is a result."""
        self.done.acquire()

    def start(self) -> None:
        """In the loop."""
        if not self._ended:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._finished)

    async def _run(self) -> _Result:
        return await self._function()

    def _finished(self, task: asyncio.Task[_Result]) -> None:
        # The thread gets no task: asyncio's set of all tasks forgets one in Python code, and what a
        # signal handler raises in the midst of that is lost.
        self._task = None
        if task.cancelled():
            self._failure = CancelledError()
        elif (error := task.exception()) is not None:
            self._failure = error
        else:
            self._value = task.result()
        self.done.release()

    def cancel(self) -> None:
        """The thread waits no more, but for the loop to know that."""
        known = threading.Lock()
        known.acquire()

        def end() -> None:
            self._ended = True
            if self._task is not None:
                self._task.cancel()
            known.release()

        # In the next turn: a task that was just made has taken its first step by then.
        self._loop.call_soon_threadsafe(self._loop.call_soon, end)
        known.acquire(timeout=_TURN)

    def result(self) -> _Result:
        """When it is done: what the coroutine has returned; raises what it has raised."""
        failure, self._failure = self._failure, None
        try:
            if failure is not None:
                raise failure
            return cast("_Result", self._value)
        finally:
            del failure  # or an error would be known to itself, by its traceback


async def _within(function: Callable[[], Awaitable[_Result]], seconds: float, what: str) -> _Result:
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await function()
    except TimeoutError:
        if scope.expired():
            raise WaitTimeout(what=what, timeout=seconds) from None
        raise
