"""Responders: who gives the replies to requests."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from open_channel.arguments import check_count
from open_channel.bus.core import codec
from open_channel.bus.core.interests import Interest
from open_channel.bus.core.records import ENCODED
from open_channel.bus.core.subjects import check_pattern
from open_channel.bus.message import Message, Origin
from open_channel.errors import MessageTooLarge, PayloadInvalid, ResponderDied
from open_channel.live import Live

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from open_channel.bus.client import BusClient
    from open_channel.bus.core.mixed import Mixed
    from open_channel.bus.core.records import Publication

__all__ = ["Handler", "Service"]

_log = logging.getLogger("open_channel")

_ENDING = (SystemExit, KeyboardInterrupt)  # what ends the program, wherever it is raised
_TEXT = 16 * 1024  # characters of an error's text that travel: there is always room for them

Handler = Callable[[Message], Awaitable[Any] | Any]
"""Gets a request, returns (or awaits and returns) the reply."""


class Service(Live):
    """Serves requests while its ``async with`` block runs; made by ``channel.serve()``."""

    def __init__(
        self,
        client: Callable[[], BusClient],
        topic: str,
        handler: Handler,
        *,
        concurrency: int,
        wanted: Any,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"a handler is a function, not a {type(handler).__name__}")
        codec.check_type(wanted)
        self.topic = check_pattern(topic)
        """What it serves."""
        self._client_of = client
        self._handler = handler
        self._concurrency = check_count("concurrency", concurrency, 1)
        self._wanted = wanted
        self._client: BusClient | None = None
        self._interest: Interest | None = None
        self._live = False
        self._context = Context()
        self._running: dict[tuple[bytes, int], asyncio.Task[None]] = {}

    async def __aenter__(self) -> Service:
        """Serve; returns when requests can be made, by anybody."""
        if self._interest is not None:
            raise RuntimeError("a service is entered once; make another")
        client = self._client = self._client_of()
        self._context = copy_context()
        self._interest = client.subscribe(
            lambda number: Interest(
                number, self.topic, self, serves=True, prefetch=self._concurrency
            )
        )
        try:
            await client.waiting.until(lambda: self._live)
        except BaseException:
            self.end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more requests, and finish those in hand; at once when the block failed."""
        self.end()
        # But not the handler that leaves the block: it would wait for itself.
        running = [task for task in self._running.values() if task is not asyncio.current_task()]
        if kind is not None:
            for task in running:
                task.cancel()
        if running:
            await asyncio.wait(running)

    def end(self) -> None:
        """Take no more requests; those in hand go on."""
        client, interest = self._client, self._interest
        if client is not None and interest is not None and client.error is None:
            client.core.unsubscribe(interest, list(self._running))
            client.schedule()

    # --- what the core tells ---------------------------------------------------------------

    def live(self) -> None:
        """See ``Sink``."""
        self._live = True
        assert self._client is not None
        self._client.has_room()

    def deliver(self, publication: Publication, messages: Sequence[bytes]) -> None:
        """See ``Sink``: a responder gets requests only."""

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        """See ``Sink``: a responder gets requests only."""

    def missing(self, count: int) -> None:
        """See ``Sink``: a responder gets requests only."""

    def lost(self, publisher: bytes, seq: int) -> None:
        """See ``Sink``: the reply will come from another as well; the first one counts."""

    def job(self, publication: Publication, seq: int, message: bytes, redelivered: bool) -> None:
        """See ``Sink``."""
        assert self._client is not None
        encoded = bool(publication.flags & ENCODED)
        origin = Origin(publication.topic, publication.sender, encoded, self._wanted)
        request = Message(origin, message, 0, redelivered)
        key = publication.sender, seq
        # Each in a context of its own: what one sets, the next must not see.
        context = self._context.copy()
        try:
            reply = context.run(self._handler, request)
        except BaseException as error:  # whatever a user's handler raises
            self._failed(request, key, error)
            if isinstance(error, _ENDING):
                self._client.loop.call_soon(_raise, error)  # here it would end the connection
            return
        # Whether an object is awaitable takes longer to find out than most replies to make.
        if type(reply) is bytes or not inspect.isawaitable(reply):
            self._reply(request, key, reply)
            return
        task = self._client.loop.create_task(self._await(request, key, reply), context=context)
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    async def _await(self, request: Message, key: tuple[bytes, int], reply: Awaitable[Any]) -> None:
        try:
            result = await reply
        except asyncio.CancelledError:
            self._answer(key, True, _failure(ResponderDied(topic=request.topic, responder="")), 0)
            raise
        except GeneratorExit:  # the loop has ended
            raise
        except BaseException as error:  # whatever a user's handler raises
            self._failed(request, key, error)
            if isinstance(error, _ENDING):
                raise
        else:
            self._reply(request, key, result)

    def _reply(self, request: Message, key: tuple[bytes, int], reply: object) -> None:
        assert self._client is not None
        try:
            body, encoded = codec.encode(reply, request.topic)
            self._client.limits.check_message(len(body))
        except (PayloadInvalid, MessageTooLarge) as error:
            self._failed(request, key, error)
        else:
            self._answer(key, False, body, ENCODED if encoded else 0)

    def _failed(self, request: Message, key: tuple[bytes, int], error: BaseException) -> None:
        name = self._client.name if self._client is not None else ""
        _log.info("%s: a handler of %s failed", name, request.topic, exc_info=error)
        self._answer(key, True, _failure(error), 0)

    def _answer(self, key: tuple[bytes, int], failed: bool, body: bytes, flags: int) -> None:
        client = self._client
        if client is not None and client.error is None:
            client.core.reply(*key, failed, body, flags)
            client.schedule()


def _failure(error: BaseException) -> bytes:
    """An error as it travels: what it is called, and its text, or as much of it as is readable."""
    kind = type(error).__qualname__
    try:
        text = str(error)
    except Exception as failed:  # whatever a user's error raises
        text = f"its text cannot be made: {type(failed).__qualname__}"
    # Half a surrogate pair, as in file names that are no UTF-8, cannot be encoded.
    text = text[:_TEXT].encode(errors="backslashreplace").decode()
    return codec.encode((kind, text))[0]


def _raise(error: BaseException) -> None:
    raise error
