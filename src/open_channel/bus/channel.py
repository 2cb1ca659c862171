"""The channel: what ``open_channel()`` returns.

The bus starts with its first use: a program that only connects imports none of it.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from open_channel.arguments import check_timeout
from open_channel.channel.channel import (
    CONNECT_TIMEOUT,
    DEFAULT_NAME,
    SocketChannel,
    name_and_listener,
)
from open_channel.channel.conversation import CLOSED_HERE
from open_channel.channel.listener import Listener
from open_channel.errors import ChannelClosed, OutboxFull
from open_channel.protocol.batches import OVERHEAD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from open_channel.bus.client import BusClient
    from open_channel.bus.locks import Lock
    from open_channel.bus.members import Member, MemberChanges, Stats
    from open_channel.bus.message import Job
    from open_channel.bus.service import Handler, Service
    from open_channel.bus.subscription import Ack, Overflow, Subscription
    from open_channel.io.directory import ChannelFiles
    from open_channel.io.locks import Claims
    from open_channel.protocol.limits import Limits

__all__ = ["Channel", "open_channel"]

_Result = TypeVar("_Result")
_REQUEST_TIMEOUT = 5.0


@overload
def open_channel(
    name: Listener,
    /,
    *,
    directory: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    labels: Mapping[str, str] | None = None,
    hosts: bool = True,
) -> Channel: ...
@overload
def open_channel(
    name: str = DEFAULT_NAME,
    listener: Listener | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    labels: Mapping[str, str] | None = None,
    hosts: bool = True,
) -> Channel: ...
def open_channel(
    name: str | Listener = DEFAULT_NAME,
    listener: Listener | None = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    labels: Mapping[str, str] | None = None,
    hosts: bool = True,
) -> Channel:
    """Open a channel by name; nothing starts before its first use.

    ``name`` is shared by all processes that talk over this channel: any printable text up to 4096
    bytes of UTF-8. ``listener`` is called with a ``ChannelSocket`` for each client while this
    process hosts the channel; a process without one connects to others and never hosts.
    ``open_channel(listener)`` uses the default name.

    ``directory`` is where the channel's files live; None means ``$OPEN_CHANNEL_DIR``, else the
    user's runtime directory, else one in ``/tmp``. ``limits`` bounds sizes and times; None means
    the defaults of ``Limits``. ``labels`` is what the other members see of this one, beside its
    pid, up to 8192 characters. ``hosts=False``: this member never hosts the broker
    (publish/subscribe and all that).

    Raises NameInvalid for a name that cannot be used; TypeError for a listener that cannot be
    called or is a generator function, and for what is no path, no Limits or no labels; ValueError
    for an empty ``directory``, and for labels that are too large or have no UTF-8;
    DirectoryInsecure for a relative ``directory`` when the working directory was deleted.
    """
    name, listener = name_and_listener(name, listener)
    return Channel(name, listener, directory, limits, labels, hosts=hosts)


class Channel(SocketChannel):
    """One opened channel; made by ``open_channel()``.

    ``connect()`` is for conversations with a listener; everything else is the bus. ``async with``
    joins the bus and leaves it; without, the first use joins.
    """

    def __init__(
        self,
        name: str,
        listener: Listener | None,
        directory: str | os.PathLike[str] | None,
        limits: Limits | None,
        labels: Mapping[str, str] | None = None,
        *,
        hosts: bool = True,
    ) -> None:
        super().__init__(name, listener, directory, limits, labels)
        self._hosts = hosts
        self._bus: BusClient | None = None
        self._claims: Claims | None = None

    @property
    def state(self) -> str:
        """``"initiated"``, ``"connecting"``, ``"connected"`` or ``"closed"``, as it is now.

        Of the conversation where ``connect()`` was called, else of the bus.
        """
        bus = self._bus
        return super().state if bus is None or self._client is not None else bus.state

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a host now; of which service: see ``state``."""
        return self.state == "connected"

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the channel now: its listener, or its broker."""
        return super().hosting or (self._bus is not None and self._bus.hosting)

    def _join_bus(self) -> BusClient:
        bus = self._bus
        if bus is not None:
            bus.check_usable()
            return bus
        self._check_open()
        asyncio.get_running_loop()  # before anything is made
        from open_channel.bus.client import BusClient

        self._bus = BusClient(self._join(), hosts=self._hosts, timeout=CONNECT_TIMEOUT)
        return self._bus

    async def __aenter__(self) -> Channel:
        """Join the bus: host it here where nobody does.

        Raises ConnectTimeout when that takes longer than 5 s, what the host refused, and what
        ``connect()`` raises.
        """
        new = self._bus is None
        bus = self._join_bus()
        try:
            await bus.wait_connected()
        except BaseException:  # nobody else would close it
            if new:
                self._destroy()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def close(self, timeout: float | None = 5.0) -> None:
        """Leave: wait until what was published has arrived everywhere, then close the socket too.

        ``timeout`` bounds the wait, in seconds; None waits for ever. What has not arrived by then
        may be lost. If this process hosts the channel, another takes over in order. Again
        is harmless. When it is cancelled all is closed at once. Raises ValueError for a timeout
        below zero.
        """
        check_timeout(timeout)
        if self._bus is not None and self._bus.error is None:
            self._bus.check_usable()
        self._refuse_locks()
        await self._leave(timeout)

    async def _leave(self, timeout: float | None) -> None:
        try:
            if self._bus is not None:
                await self._bus.close(timeout)
        except BaseException:
            self._destroy()
            raise
        await super().close(timeout)

    def _destroy(self) -> None:
        self._closed = True
        if self._bus is not None:
            self._bus.destroy()
        if self._client is not None:
            self._client.socket.destroy()

    def _refuse_locks(self) -> None:
        if self._claims is not None:
            self._claims.refuse(ChannelClosed(name=self._name, reason=CLOSED_HERE))

    # --- publish and subscribe -------------------------------------------------------------

    async def publish(
        self, topic: str, data: Any = b"", *, confirm: bool = False
    ) -> tuple[str, ...]:
        """Publish one message to everybody who subscribes to ``topic`` now.

        ``data`` is bytes, which pass untouched, or anything that MessagePack can carry. Waits for
        room while more than ``Limits.drain`` bytes are unacknowledged, not for delivery. With
        ``confirm`` it returns when every subscriber has received the message; the ids of members
        that were left out because they are out of touch are what it returns (none, normally, and
        always none without ``confirm``).

        Raises TopicInvalid, PayloadInvalid, MessageTooLarge, ChannelClosed, ChannelForked, and
        ConnectTimeout when the channel never was connected. When it is cancelled while it waits
        for room nothing is published; while it waits for confirmation, the message is.
        """
        bus = self._bus or self._join_bus()
        row = bus.row
        # As mostly in a stream: what follows does the same with one call more.
        if topic is bus.plain and type(data) is bytes and len(data) + OVERHEAD < row.credit:
            row.bodies.append(data)
            row.credit -= len(data) + OVERHEAD
        else:
            waits = bus.room <= 0
            if not waits:
                try:
                    bus.publish(topic, data)
                except OutboxFull:
                    waits = True
            if waits:
                await bus.turns.take(partial(bus.publish, topic, data))
        return await bus.waiting.arrived(last=True) if confirm else ()

    def publish_nowait(self, topic: str, data: Any = b"") -> None:
        """Publish one message, without waiting for room.

        Raises OutboxFull when more than ``Limits.outbox`` bytes are unacknowledged, and the errors
        of ``publish()``; nothing is published then.
        """
        bus = self._bus or self._join_bus()
        bus.publish(topic, data)

    async def flush(self) -> tuple[str, ...]:
        """Wait until everything published so far has arrived at every subscriber.

        Returns the ids of members that were left out, as ``publish(confirm=True)`` does. Raises
        what closed the channel. Can be cancelled: nothing is taken back.
        """
        return await self._join_bus().waiting.arrived()

    @overload
    def subscribe(
        self,
        pattern: str,
        *,
        group: str,
        overflow: Overflow = "drop_oldest",
        ack: Ack = "next",
        prefetch: int = 8,
        queue: int | None = None,
        type: Any = None,
    ) -> Subscription[Job]: ...
    @overload
    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        overflow: Overflow = "drop_oldest",
        ack: Ack = "next",
        prefetch: int = 8,
        queue: int | None = None,
        type: Any = None,
    ) -> Subscription: ...
    def subscribe(
        self,
        pattern: str,
        *,
        group: str | None = None,
        overflow: Overflow = "drop_oldest",
        ack: Ack = "next",
        prefetch: int = 8,
        queue: int | None = None,
        type: Any = None,  # noqa: A002 (the word for it, as in msgspec)
    ) -> Subscription[Any]:
        """Subscribe to all topics that ``pattern`` matches; use it in ``async with``.

        ``pattern`` is a NATS subject: ``*`` stands for one token, a last ``>`` for one or more.

        ``group``: each message goes to one member of the group only, as a job: see ``Job``. A group
        is known by its name and its pattern. ``ack`` says when a job is done: with ``"next"`` when
        its consumer asks for the next one, or calls ``Job.ack()``; with ``"manual"`` only when that
        is called, by whoever it was handed to. ``prefetch`` is how many jobs may be in hand here,
        those that wait to be taken included.

        ``queue`` is how many bytes may wait here to be taken; None means ``Limits.queue``. When it
        is full, ``overflow`` says what happens: ``"drop_oldest"``, ``"drop_newest"`` (both are told
        by ``Message.missed``), or ``"block"``: nothing is dropped, and publishers wait once they
        have ``Limits.drain`` bytes unacknowledged each, which all may wait here.

        ``type`` is what ``Message.data`` decodes into and is checked against: a dataclass, a
        msgspec Struct, ``list[int]``...; None decodes what comes into plain data.

        Raises TopicInvalid; TypeError for options of another type, and for a ``type`` that nothing
        decodes into; ValueError for an unknown ``overflow`` or ``ack``, a ``group`` that is empty,
        over 1024 bytes or no UTF-8, a ``prefetch`` below 1 and a ``queue`` below 0.
        """
        from open_channel.bus.subscription import Subscription

        return Subscription(
            self._join_bus,
            pattern,
            group=group,
            overflow=overflow,
            ack=ack,
            prefetch=prefetch,
            queue=queue,
            wanted=type,
        )

    # --- requests --------------------------------------------------------------------------

    def serve(
        self,
        topic: str,
        handler: Handler,
        *,
        concurrency: int = 64,
        type: Any = None,  # noqa: A002 (as in subscribe())
    ) -> Service:
        """Answer requests to ``topic`` (or a pattern); use it in ``async with``.

        ``handler(message)`` returns the reply, or is a coroutine function that does; what it raises
        reaches the requester as ResponderError. Each is called in a context of its own, a copy of
        that in which the block was entered (``contextvars``). Up to ``concurrency`` requests are
        handled at the same time. ``type`` as in ``subscribe()``.

        Raises TopicInvalid; TypeError for a handler that cannot be called, a ``concurrency`` that
        is no int and a ``type`` that nothing decodes into; ValueError for a ``concurrency`` below
        1.
        """
        from open_channel.bus.service import Service

        return Service(self._join_bus, topic, handler, concurrency=concurrency, wanted=type)

    async def request(
        self,
        topic: str,
        data: Any = b"",
        *,
        to: str | None = None,
        timeout: float | None = _REQUEST_TIMEOUT,
        type: Any = None,  # noqa: A002 (as in subscribe(), of the reply)
    ) -> Any:
        """Ask one of those who serve ``topic``, or the member ``to`` (its id); return the reply.

        ``timeout`` is in seconds; None waits for ever, and still ends when the responder dies.

        Raises NoResponders when nobody serves the topic, ResponderDied, ResponderError with type
        and text of what the responder raised, RequestTimeout, the errors of ``publish()``,
        TypeError for a ``type`` that nothing decodes into, and ValueError for a timeout below zero
        and for what is no member's id. When it is cancelled, a request that nobody has begun to
        answer is taken back.
        """
        bus = self._asks_through(timeout, type)
        replies = await bus.requests.ask(topic, data, to=to, timeout=timeout, wanted=type)
        reply = next(iter(replies.values()))
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def request_all(
        self,
        topic: str,
        data: Any = b"",
        *,
        timeout: float | None = _REQUEST_TIMEOUT,
        type: Any = None,  # noqa: A002 (as in request())
    ) -> dict[str, Any]:
        """Ask everybody who serves ``topic``; return {member id: reply} when all have replied.

        What a responder raised stands in its place as a ResponderError. After ``timeout`` seconds
        (None: no bound) those who have not replied are missing, and so are those who died; nobody
        serving the topic is an empty dictionary. Raises the errors of ``publish()``, and TypeError
        and ValueError as ``request()`` does.
        """
        bus = self._asks_through(timeout, type)
        replies = await bus.requests.ask(topic, data, everyone=True, timeout=timeout, wanted=type)
        return {member.hex(): reply for member, reply in replies.items()}

    def _asks_through(self, timeout: float | None, wanted: Any) -> BusClient:
        """Check what requests have in common; return their bus."""
        check_timeout(timeout)
        if wanted is not None:
            from open_channel.bus.core import codec

            codec.check_type(wanted)
        return self._bus or self._join_bus()

    # --- members, locks --------------------------------------------------------------------

    @property
    def member(self) -> str:
        """This member's own id, 32 hexadecimal digits."""
        return self._join().id.hex()

    @property
    def members(self) -> list[Member]:
        """Who is here, as far as this member knows now; itself included once it is connected.

        The first use joins, as any other does: in the loop that the channel then belongs to.
        """
        return (self._bus or self._join_bus()).members()

    def watch_members(self) -> MemberChanges:
        """An iterator over the members that join and leave from now on, until it is closed.

        Each step of it can be cancelled: no change is lost by it, and the next step goes on.
        Raises what closed the channel.
        """
        bus = self._join_bus()
        from open_channel.bus.members import MemberChanges

        return MemberChanges(bus)

    def lock(self, name: str, *, timeout: float | None = None) -> Lock:
        """A lock that one process at a time holds; use it in ``async with``.

        It is the kernel's: released at its holder's death, and never taken away from a living one.
        ``timeout`` is in seconds; None waits for ever, 0 tries once. Raises WaitTimeout when it
        passes; ``lock()`` itself NameInvalid, and ValueError for a timeout below zero.
        """
        from open_channel.bus.locks import Lock

        files, claims = self._locking()
        return Lock(files, name, timeout, claims)

    @overload
    async def lead(self, name: str, run: Callable[[], Awaitable[_Result]]) -> _Result: ...
    @overload
    async def lead(self, name: str, run: Callable[[], _Result]) -> _Result: ...
    async def lead(self, name: str, run: Callable[[], Any]) -> Any:
        """Wait until this member leads ``name``, then run ``run()`` and return its result.

        Exactly one member leads while anybody wants to; when it dies or returns, the next one does
        within milliseconds. When this is cancelled, ``run()`` is, and the next one leads. Raises
        NameInvalid, ChannelClosed when the channel is closed before it leads, and what ``run()``
        raises.
        """
        from open_channel.bus.locks import Lock, lead

        files, claims = self._locking()
        return await lead(Lock(files, name, None, claims), run)

    def _locking(self) -> tuple[ChannelFiles, Claims]:
        """Where the channel's locks are, and who waits for one."""
        self._check_open()
        if self._claims is None:
            from open_channel.io.locks import Claims

            self._claims = Claims()
        return self._join().files, self._claims

    def stats(self) -> Stats:
        """Figures of this member's bus."""
        return (self._bus or self._join_bus()).stats()
