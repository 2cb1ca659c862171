"""Requests: who waits for replies, and until when."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from open_channel.bus.core import codec
from open_channel.bus.core.records import ENCODED, NOBODY, End
from open_channel.channel.waiter import Waiter
from open_channel.errors import (
    NoResponders,
    OutboxFull,
    RequestTimeout,
    ResponderDied,
    ResponderError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from open_channel.bus.client import BusClient
    from open_channel.bus.core.records import Publication
    from open_channel.errors import ChannelError

__all__ = ["Replies", "Requests"]

_NEVER = float("inf")


class Requests:
    """What one member has asked and is waiting for.

    One timer serves all: it stands at the earliest end of a wait, and is left there when that one
    has its reply. A timer for each took a tenth of the requester's time.
    """

    def __init__(self, client: BusClient) -> None:
        self._client = client
        self._waiting: dict[Replies, float] = {}
        """{who waits: until when}."""
        self._alarm: asyncio.TimerHandle | None = None
        self._due = _NEVER
        self._error: ChannelError | None = None

    async def ask(
        self,
        topic: str,
        data: object,
        *,
        to: str | None = None,
        everyone: bool = False,
        timeout: float | None,
        wanted: Any,
    ) -> dict[bytes, Any]:
        """See ``Channel.request()`` and ``Channel.request_all()``."""
        client = self._client
        address = _address(to, topic)
        replies = Replies(client, topic, address, everyone, wanted, timeout)
        until = _NEVER if timeout is None else client.loop.time() + timeout
        send = partial(client.request, topic, data, address, everyone, replies)
        try:
            number = send() if client.room > 0 else 0
        except OutboxFull:
            number = 0
        if not number:
            try:
                number = await self._in_time(send, replies, until)
            except RequestTimeout:
                if everyone:
                    return {}
                raise
        self._wait_until(replies, until)
        if self._error is not None:  # the channel is being closed
            replies.failed(self._error)
        try:
            await replies.waiter
        finally:
            del self._waiting[replies]
            client.cancel(number)
        if replies.error is not None:
            raise replies.error
        return replies.replies

    async def _in_time(self, send: Callable[[], int], replies: Replies, until: float) -> int:
        """Send it when there is room, and before the time for the reply is over."""
        scope = asyncio.timeout_at(None if until == _NEVER else until)
        try:
            async with scope:
                return await self._client.turns.take(send)
        except TimeoutError:
            if scope.expired():
                raise replies.too_late() from None
            raise

    def _wait_until(self, replies: Replies, when: float) -> None:
        self._waiting[replies] = when
        if when < self._due:
            self._arm(when)

    def _arm(self, when: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._due = when
        self._alarm = None if when == _NEVER else self._client.loop.call_at(when, self._expire)

    def _expire(self) -> None:
        now = self._client.loop.time()  # timers are early now and then
        left = _NEVER
        for replies, when in list(self._waiting.items()):
            if when <= now:
                replies.expire()
            else:
                left = min(left, when)
        self._arm(left)

    def failed(self, error: ChannelError) -> None:
        """The channel is closed, or will be as soon as what was published has arrived."""
        self._error = error
        for replies in list(self._waiting):
            replies.failed(error)
        self._arm(_NEVER)


def _address(to: str | None, topic: str) -> bytes:
    if to is None:
        return NOBODY
    try:
        address = bytes.fromhex(to)
    except (ValueError, TypeError):
        address = b""
    if len(address) != len(NOBODY):
        raise ValueError(f"a member's id is 32 hexadecimal digits, not {to!r}")
    if address == NOBODY:  # which would be any: no member has this id
        raise NoResponders(topic=topic)
    return address


class Replies:
    """Who waits for the reply to one request, or for the replies of all: see ``Awaiting``."""

    def __init__(
        self,
        client: BusClient,
        topic: str,
        to: bytes,
        everyone: bool,
        wanted: Any,
        timeout: float | None,
    ) -> None:
        self._topic = topic
        self._to = to
        self._everyone = everyone
        self._wanted = wanted
        self._timeout = timeout
        self._missing: set[bytes] | None = None
        self._client = client
        self._done = False
        self.waiter = Waiter(client.loop)
        """Woken at the end."""
        self.error: ChannelError | None = None
        """Why there is no reply."""
        self.replies: dict[bytes, Any] = {}
        """{member: its reply, or the error that it raised}."""

    def replied(self, publication: Publication, failed: bool, body: bytes) -> bool:
        """See ``Awaiting``."""
        sender = publication.sender
        if sender in self.replies:
            return False
        if self._everyone and failed and not body:  # it has ceased to serve meanwhile
            return self._check(sender)
        self.replies[sender] = self._decode(publication, failed, body)
        return self._check(sender)

    def _decode(self, publication: Publication, failed: bool, body: bytes) -> Any:
        sender = publication.sender.hex()
        try:
            if not failed:
                encoded = bool(publication.flags & ENCODED)
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
            self.error = error
            self._client.touched(self)

    def wake(self, *, now: bool) -> None:
        """What was waited for is here."""
        self.waiter.wake(now=now)

    def expire(self) -> None:
        """The time is over."""
        if not self._done:
            self._finish(None if self._everyone else self.too_late())
            self.wake(now=False)

    def too_late(self) -> RequestTimeout:
        """What says that the time is over."""
        return RequestTimeout(topic=self._topic, timeout=self._timeout)

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
