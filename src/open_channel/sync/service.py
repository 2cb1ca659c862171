"""Blocking responders: the handler runs in threads, which are kept and used again."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from open_channel.bus.message import Message
from open_channel.bus.service import Service as AsyncService
from open_channel.live import Live
from open_channel.sync import portal

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from open_channel.bus.client import BusClient
    from open_channel.sync.bus import Bus

__all__ = ["Handler", "Service"]

Handler = Callable[[Message], Any]
"""Gets a request, returns the reply; called in a thread of the service."""


class Service(Live):
    """Serves requests while its ``with`` block runs; made by ``channel.serve()``.

    In a forked child it does nothing: requests stay the parent's.
    """

    def __init__(
        self,
        join: Callable[[], Bus],
        topic: str,
        handler: Handler,
        *,
        concurrency: int,
        wanted: Any,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is a function, not a {type(handler).__name__}")
        if inspect.iscoroutinefunction(handler):
            raise TypeError("a handler of the blocking API is a plain function")
        self._join = join
        self._handler = handler
        self._bus: Bus | None = None
        self._context = Context()
        self._inner = AsyncService(
            self._client, topic, self._handle, concurrency=concurrency, wanted=wanted
        )
        self._here = threading.local()  # whether this thread handles a request of this service
        self._workers = _Workers(concurrency, f"open-channel serve {topic}")

    def _client(self) -> BusClient:
        assert self._bus is not None
        return self._bus.client

    @property
    def topic(self) -> str:
        """What it serves."""
        return self._inner.topic

    def __enter__(self) -> Self:
        """Serve; returns when requests can be made, by anybody.

        Raises what closed the channel, and RuntimeError when it was entered before.
        """
        new = self._bus is None
        bus = self._bus = self._bus or self._join()
        self._context = copy_context()
        try:
            bus.run(self._inner.__aenter__)
        except BaseException:  # as of a subscription
            if new:
                self.let_go()
            raise
        return self

    @portal.closes
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more requests, and finish those in hand.

        When the block failed nobody waits for them: their requesters get ResponderError at once,
        and what the handlers return is dropped. A handler that leaves the block waits for none.
        """
        bus = self._bus
        if bus is None or bus.forked or portal.frozen():
            return
        if bus.client.error is None:
            if getattr(self._here, "handles", False):
                bus.call(self._inner.end)
            else:
                bus.run(lambda: self._inner.__aexit__(kind, error, traceback))
        bus.post(self._workers.end)

    def let_go(self) -> None:
        """Take no more requests, without waiting for those in hand; again is harmless."""
        bus = self._bus
        if bus is not None and not bus.forked:
            bus.post(self._inner.end)
            bus.post(self._workers.end)

    # --- in the loop -----------------------------------------------------------------------

    def _handle(self, request: Message) -> asyncio.Future[Any]:
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._workers.add(partial(self._work, request, reply))
        return reply

    # --- in a thread of its own ------------------------------------------------------------

    def _work(self, request: Message, reply: asyncio.Future[Any]) -> None:
        assert self._bus is not None
        result: object = None
        failure: Exception | None = None
        if reply.cancelled():
            return
        self._here.handles = True
        try:
            result = self._context.copy().run(self._handler, request)
        except (StopIteration, StopAsyncIteration) as error:  # no future takes these
            failure = RuntimeError(f"the handler raised {error!r}")
        except Exception as error:  # whatever a user's handler raises
            failure = error
        except BaseException as error:  # it ends the handler, and not the loop
            failure = RuntimeError(f"the handler ended with {error!r}")
        self._bus.post(partial(_settle, reply, result, failure))


def _settle(reply: asyncio.Future[Any], result: object, failure: Exception | None) -> None:
    if reply.done():
        return
    if failure is None:
        reply.set_result(result)
    else:
        reply.set_exception(failure)


class _Workers:
    """Threads that work off what is added; one more where none is free, up to a limit."""

    # Those of concurrent.futures would keep the process from ending while a handler waits. The loop
    # and these threads share a lock: no thread may have it in which a signal handler may run.

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = 0
        self._free = 0  # threads that wait, and are not meant to get what was added
        self._waiting = 0  # what was added, and no thread is meant to get

    def add(self, work: Callable[[], None]) -> None:
        """Have it done by a thread, when one is free. Raises RuntimeError when none can start."""
        with self._lock:
            if self._free:
                self._free -= 1
            elif self._threads < self._limit:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()  # it needs nothing that we hold before it gets its work
                self._threads += 1
            else:
                self._waiting += 1
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # what it holds is not kept while this waits
            with self._lock:
                if self._waiting:
                    self._waiting -= 1
                else:
                    self._free += 1

    def end(self) -> None:
        """In the loop: let the threads end when all that was added is done; again is harmless."""
        with self._lock:
            threads, self._threads = self._threads, 0
            self._limit = 0
        for _ in range(threads):
            self._work.put(None)
