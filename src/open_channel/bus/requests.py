"""Requests: who waits for replies, and who gives them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from open_channel.bus.core import codec
from open_channel.bus.core.interests import Interest
from open_channel.bus.core.records import NOBODY, End, Flag
from open_channel.bus.core.subjects import check_pattern
from open_channel.bus.message import Batch, Message, Request
from open_channel.channel.waiter import Waiter
from open_channel.errors import (
    NoResponders,
    PayloadInvalid,
    RequestTimeout,
    ResponderDied,
    ResponderError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from open_channel.bus.client import BusClient
    from open_channel.bus.core.records import Publication
    from open_channel.errors import ChannelError

__all__ = ["Handler", "Replies", "Service", "ask"]

_log = logging.getLogger("open_channel")

Handler = Callable[[Message], Awaitable[Any] | Any]
"""Gets a request, returns (or awaits and returns) the reply."""

_ENCODED = int(Flag.ENCODED)


async def ask(
    client: BusClient,
    topic: str,
    data: object,
    *,
    to: str | None = None,
    everyone: bool = False,
    timeout: float | None,
    wanted: Any,
) -> dict[bytes, Any]:
    """See ``Channel.request()`` and ``Channel.request_all()``."""
    address = _address(to)
    replies = Replies(client, topic, address, everyone, wanted)
    number = await client.request(topic, data, address, everyone, replies)
    forget = client.when_ended(replies.failed)
    alarm: asyncio.TimerHandle | None = None
    try:
        if timeout is not None:
            alarm = client.loop.call_later(timeout, replies.expire, timeout)
        await replies.wait()
    finally:
        if alarm is not None:
            alarm.cancel()
        forget()
        client.cancel(number)
    return replies.replies


def _address(to: str | None) -> bytes:
    if to is None:
        return NOBODY
    try:
        address = bytes.fromhex(to)
    except (ValueError, TypeError):
        address = b""
    if len(address) != len(NOBODY):
        raise ValueError(f"a member's id is 32 hexadecimal digits, not {to!r}")
    return address


class Replies:
    """Who waits for the reply to one request, or for the replies of all: see ``Awaiting``."""

    def __init__(
        self, client: BusClient, topic: str, to: bytes, everyone: bool, wanted: Any
    ) -> None:
        self._topic = topic
        self._to = to
        self._everyone = everyone
        self._wanted = wanted
        self._missing: set[bytes] | None = None
        self._client = client
        self._waiter = Waiter(client.loop)
        self._done = False
        self._error: ChannelError | None = None
        self.replies: dict[bytes, Any] = {}
        """{member: its reply, or the error that it raised}."""

    def replied(self, publication: Publication, failed: bool, body: bytes) -> bool:
        """See ``Awaiting``."""
        sender = publication.sender
        if sender in self.replies:
            return False
        self.replies[sender] = self._decode(publication, failed, body)
        return self._check(sender)

    def _decode(self, publication: Publication, failed: bool, body: bytes) -> Any:
        sender = publication.sender.hex()
        try:
            if not failed:
                encoded = bool(publication.flags & _ENCODED)
                return codec.decode(body, encoded, self._wanted, self._topic, sender)
            if not body:
                return NoResponders(topic=self._topic)
            kind, text = codec.decode(body, True, tuple[str, str], self._topic, sender)
            return ResponderError(topic=self._topic, responder=sender, kind=kind, reason=text)
        except Exception as error:
            return error

    def _check(self, member: bytes) -> bool:
        if self._missing is not None:
            self._missing.discard(member)
        if self._everyone and (self._missing is None or self._missing):
            return False
        self._finish(None)
        return True

    def _finish(self, error: ChannelError | None) -> None:
        if not self._done:
            self._done = True
            self._error = error
            self._client.touched(self)

    def wake(self, *, now: bool) -> None:
        """What was waited for is here."""
        self._waiter.wake(now=now)

    async def wait(self) -> None:
        """Wait for the end; raises what it ended with."""
        await self._waiter
        if self._error is not None:
            raise self._error

    def expire(self, timeout: float) -> None:
        """The time is over."""
        if not self._done:
            error = RequestTimeout(topic=self._topic, timeout=timeout)
            self._finish(None if self._everyone else error)
            self.wake(now=False)

    def ended(self, why: End) -> None:
        """See ``Awaiting``."""
        if why is End.DIED:
            self._finish(
                ResponderDied(topic=self._topic, responder=self._to.hex() if any(self._to) else "")
            )
        elif not self.replies and not self._everyone:
            self._finish(NoResponders(topic=self._topic))
        else:
            self._finish(None)

    def responders(self, members: Sequence[bytes]) -> bool:
        """See ``Awaiting``."""
        self._missing = set(members) - self.replies.keys()
        if not self._missing:
            self._finish(None)
        return not self._missing

    def left(self, member: bytes) -> bool:
        """See ``Awaiting``."""
        if member == self._to and any(member):
            self.ended(End.DIED)
            return True
        if self._missing is not None and member in self._missing:
            return self._check(member)
        return False

    def failed(self, error: ChannelError) -> None:
        """The channel is closed."""
        self._finish(error.again())
        self.wake(now=False)


class Service:
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
        if concurrency < 1:
            raise ValueError(f"concurrency is a number of requests from 1 on, not {concurrency}")
        if not callable(handler):
            raise TypeError(f"a handler is a function, not a {type(handler).__name__}")
        self.topic = check_pattern(topic)
        """What it serves."""
        self._client_of = client
        self._handler = handler
        self._concurrency = concurrency
        self._wanted = wanted
        self._client: BusClient | None = None
        self._interest: Interest | None = None
        self._live = False
        self._running: dict[tuple[bytes, int], asyncio.Task[None]] = {}

    async def __aenter__(self) -> Service:
        """Serve; returns when requests can be made, by anybody."""
        if self._interest is not None:
            raise RuntimeError("a service is entered once; make another")
        client = self._client = self._client_of()
        self._interest = client.subscribe(
            lambda number: Interest(
                number, self.topic, self, serves=True, prefetch=self._concurrency
            )
        )
        try:
            await client.wait_until(lambda: self._live)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take no more requests, and finish those in hand; at once when the block failed."""
        self._end()
        running = list(self._running.values())
        if kind is not None:
            for task in running:
                task.cancel()
        if running:
            await asyncio.wait(running)

    def _end(self) -> None:
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

    def missing(self, count: int) -> None:
        """See ``Sink``: a responder gets requests only."""

    def lost(self, publisher: bytes, seq: int) -> None:
        """See ``Sink``: the reply will come from another as well; the first one counts."""

    def job(self, publication: Publication, seq: int, message: bytes, redelivered: bool) -> None:
        """See ``Sink``."""
        assert self._client is not None
        request = Request(Batch(publication, (message,), self._wanted), message, redelivered)
        key = publication.sender, seq
        try:
            reply = self._handler(request)
        except Exception as error:  # whatever a user's handler raises
            self._failed(request, key, error)
            return
        if not inspect.isawaitable(reply):
            self._reply(request, key, reply)
            return
        task = self._client.loop.create_task(self._await(request, key, reply))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))

    async def _await(self, request: Message, key: tuple[bytes, int], reply: Awaitable[Any]) -> None:
        try:
            result = await reply
        except asyncio.CancelledError:
            self._answer(key, True, _failure(ResponderDied(topic=request.topic, responder="")), 0)
            raise
        except Exception as error:  # whatever a user's handler raises
            self._failed(request, key, error)
        else:
            self._reply(request, key, result)

    def _reply(self, request: Message, key: tuple[bytes, int], reply: object) -> None:
        try:
            body, encoded = codec.encode(reply, request.topic)
        except PayloadInvalid as error:
            self._failed(request, key, error)
        else:
            self._answer(key, False, body, _ENCODED if encoded else 0)

    def _failed(self, request: Message, key: tuple[bytes, int], error: Exception) -> None:
        name = self._client.name if self._client is not None else ""
        _log.info("%s: a handler of %s failed", name, request.topic, exc_info=error)
        self._answer(key, True, _failure(error), 0)

    def _answer(self, key: tuple[bytes, int], failed: bool, body: bytes, flags: int) -> None:
        client = self._client
        if client is not None and client.error is None:
            client.core.reply(*key, failed, body, flags)
            client.schedule()


def _failure(error: Exception) -> bytes:
    return codec.encode((type(error).__qualname__, str(error)))[0]
