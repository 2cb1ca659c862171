"""The blocking channel: opens the asyncio one in the background thread, again in every child."""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, overload

from open_channel.channel.channel import DEFAULT_NAME, name_and_listener
from open_channel.channel.conversation import CLOSED_HERE
from open_channel.errors import ChannelClosed
from open_channel.io import fork
from open_channel.io.background import background_runs
from open_channel.io.directory import resolve
from open_channel.live import Live
from open_channel.sync import exits, portal
from open_channel.sync.bus import Bus
from open_channel.sync.listener import in_thread
from open_channel.sync.locks import Lock, lead
from open_channel.sync.members import MemberChanges
from open_channel.sync.opened import Opened
from open_channel.sync.service import Service
from open_channel.sync.socket import ChannelSocket
from open_channel.sync.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from open_channel.bus.members import Member, Stats
    from open_channel.bus.message import Job
    from open_channel.bus.subscription import Ack, Overflow
    from open_channel.channel.conversation import Peer
    from open_channel.channel.socket import ChannelSocket as AsyncSocket
    from open_channel.io.directory import ChannelFiles
    from open_channel.io.locks import Claims
    from open_channel.protocol.limits import Limits
    from open_channel.sync.listener import Listener
    from open_channel.sync.service import Handler

__all__ = ["Channel", "open_channel"]

# The asyncio API imports these with the first use that needs them. Here that would be in the loop,
# beside other threads: a fork in the midst of it would find half of them in the child, and a signal
# handler that interrupts the import of one, and waits for the loop, would wait for ever.
for _module in ("hashlib", "json", "mmap", "open_channel.bus.client"):
    import_module(_module)

_Result = TypeVar("_Result")


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

    The parameters are those of ``open_channel.open_channel()``, but that ``listener(socket)`` is a
    plain function: it runs in a thread of its own for each client, with a blocking socket.

    Raises what it raises, and TypeError for a listener that is a coroutine function.
    """
    name, listener = name_and_listener(name, listener, blocking=True)
    return Channel(name, listener, directory, limits, labels, hosts=hosts)


class Channel(Live):
    """One opened channel; made by ``open_channel()``.

    ``connect()`` is for conversations with a listener; everything else is the bus. ``with`` joins
    the bus and leaves it; without, the first use joins. Every method can be called from any thread.
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
        self._name = name
        self._listener = None if listener is None else in_thread(listener)
        # Once: a child that opens the channel again may have another working directory.
        self._directory = None if directory is None else resolve(directory).path
        self._limits = limits
        self._labels = labels
        self._hosts = hosts
        self._timeout: float | None = None
        self._socket: ChannelSocket | None = None
        self._bus: Bus | None = None
        self._closed = False
        self._pid = os.getpid()
        self._inner = self._make()

    def _make(self) -> Opened:
        return Opened(
            self._name,
            self._listener,
            self._directory,
            self._limits,
            self._labels,
            hosts=self._hosts,
        )

    @property
    def _channel(self) -> Opened:
        """The asyncio channel; in a forked child a new one. Not to be asked for in the loop."""
        fork.notice()  # also where this was made in the child: the loop is needed
        if self._pid != os.getpid() and not self._closed:
            portal.call(self._reopen)
        return self._inner

    def _reopen(self) -> None:
        if self._pid != os.getpid():  # else another thread was faster
            self._inner = self._make()
            self._pid = os.getpid()

    def _join(self) -> Bus:
        """The bus, of this process; when the channel is closed, one that says so."""
        bus = self._bus
        if bus is not None and not bus.forked:
            return bus
        if self._closed:
            raise ChannelClosed(name=self._name, reason=CLOSED_HERE)
        channel = self._channel
        return portal.call(lambda: self._join_here(channel))

    def _join_here(self, channel: Opened) -> Bus:
        bus = self._bus
        if bus is None or bus.forked:
            bus = self._bus = Bus(channel.bus())
            exits.leave_open(self, self._end)
        return bus

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._name

    @property
    def state(self) -> str:
        """``"initiated"``, ``"connecting"``, ``"connected"`` or ``"closed"``, as it is now."""
        return self._channel.state

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a host now."""
        return self._channel.connected

    @property
    def hosting(self) -> bool:
        """Whether this process hosts the channel now."""
        return self._channel.hosting

    @property
    def peer(self) -> Peer | None:
        """The host, while and after there is a connection; None before the first."""
        return self._channel.peer

    def connect(self, timeout: float | None = 5.0) -> ChannelSocket:
        """Connect to whoever hosts the channel, and host it here where nobody does.

        See ``open_channel.Channel.connect()``. In a forked child the channel and its socket
        connect again, as a new member, with their next use.
        """
        if self._socket is None:
            self._timeout = timeout
            opened = self._connect()
            self._socket = portal.call(lambda: self._wrap(opened))
        elif self._closed or self.state == "closed":
            self._connect()  # which says why not
        return self._socket

    def _wrap(self, opened: AsyncSocket) -> ChannelSocket:
        """The one blocking socket: several threads may ask for it first."""
        if self._socket is None:
            self._socket = ChannelSocket(opened, self._connect, self._socket_closed)
        return self._socket

    def _socket_closed(self) -> None:
        if self._bus is None:
            exits.forget(self)

    def _connect(self) -> AsyncSocket:
        channel = self._channel
        opened = portal.call(lambda: channel.connect(self._timeout))
        exits.leave_open(self, self._end)
        return opened

    def __enter__(self) -> Self:
        """Join the bus: host it here where nobody does.

        Raises ConnectTimeout when that takes longer than 5 s, what the host refused, and what
        ``connect()`` raises.
        """
        new = self._bus is None
        try:
            bus = self._join()
            bus.run(bus.client.wait_connected)
        except BaseException:  # nobody else would close it
            if new and self._bus is not None:
                self.close(0)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self._close(5.0)

    def close(self, timeout: float | None = 5.0) -> None:
        """Leave: wait until what was published has arrived everywhere, then close the socket too.

        ``timeout`` bounds either wait, in seconds; None waits for ever. What has not arrived by
        then may be lost. If this process hosts the channel, another takes over in order.
        Again is harmless. In its own listener: see ``ChannelSocket.close()``.
        """
        self._close(portal.bound(timeout))

    @portal.closes
    def _close(self, timeout: float | None) -> None:
        self._inner.refuse_locks()
        if self._end() is None:
            return
        limit = portal.leaving(timeout)
        bus = self._bus
        if bus is not None and bus.client.error is None:
            bus.run(lambda: bus.client.close(timeout), limit, portal.THE_END)
        if self._socket is not None:
            self._socket.close(timeout)
        portal.run(lambda: self._inner.leave(timeout), limit, portal.THE_END)

    def let_go(self) -> None:
        """Leave without the time to deliver anything; again is harmless."""
        self._closed = True
        if self._pid == os.getpid() and background_runs() and not portal.frozen():
            portal.run(lambda: self._inner.leave(0), portal.leaving(0), portal.THE_END)
        exits.forget(self)

    def _end(self) -> tuple[Opened, ChannelSocket | None] | None:
        """Use it no more; what is to be closed."""
        exits.forget(self)
        self._closed = True
        if self._pid != os.getpid() or portal.frozen():  # a forked child that never used it
            return None
        if not background_runs():
            self._inner.end_unused()
            return None
        return self._inner, self._socket

    # --- publish and subscribe -------------------------------------------------------------

    def publish(
        self,
        topic: str,
        data: Any = b"",
        *,
        confirm: bool = False,
        timeout: float | None = None,
    ) -> tuple[str, ...]:
        """Publish one message to everybody who subscribes to ``topic`` now.

        See ``open_channel.Channel.publish()``. ``timeout`` bounds the wait for room, and the one
        for the confirmation, in seconds; None waits for ever.

        Raises WaitTimeout when it passes first: nothing was published when it was room that was
        waited for, which ``WaitTimeout.what`` says; and what the asyncio one raises.
        """
        return self._join().publish(topic, data, confirm=confirm, timeout=timeout)

    def publish_nowait(self, topic: str, data: Any = b"") -> None:
        """Publish one message, without waiting for room.

        Raises OutboxFull when more than ``Limits.outbox`` bytes are unacknowledged, and the errors
        of ``publish()``; nothing is published then.
        """
        self._join().publish(topic, data, wait=False)

    def flush(self, timeout: float | None = None) -> tuple[str, ...]:
        """Wait until everything published so far has arrived at every subscriber.

        Returns the ids of members that were left out, as ``publish(confirm=True)`` does.
        ``timeout`` is in seconds; None waits for ever. Raises WaitTimeout when it passes first, and
        what closed the channel.
        """
        return self._join().flush(timeout)

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
        """Subscribe to all topics that ``pattern`` matches; use it in ``with``.

        The parameters, and what is raised, are those of ``open_channel.Channel.subscribe()``.
        """
        return Subscription(
            self._join,
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
        """Answer requests to ``topic`` (or a pattern); use it in ``with``.

        ``handler(message)`` is a plain function that returns the reply; what it raises reaches the
        requester as ResponderError. It is called in threads of the service, ``concurrency`` at
        most, which are started when they are needed and used again. ``type`` as in ``subscribe()``.

        Raises TopicInvalid, TypeError for a handler that is no plain function, and ValueError.
        """
        return Service(self._join, topic, handler, concurrency=concurrency, wanted=type)

    def request(
        self,
        topic: str,
        data: Any = b"",
        *,
        to: str | None = None,
        timeout: float | None = 5.0,
        type: Any = None,  # noqa: A002 (as in subscribe(), of the reply)
    ) -> Any:
        """Ask one of those who serve ``topic``, or the member ``to`` (its id); return the reply.

        See ``open_channel.Channel.request()``, also for what it raises.
        """
        bus, inner = self._join(), self._inner
        return bus.run(lambda: inner.request(topic, data, to=to, timeout=timeout, type=type))

    def request_all(
        self,
        topic: str,
        data: Any = b"",
        *,
        timeout: float | None = 5.0,
        type: Any = None,  # noqa: A002 (as in request())
    ) -> dict[str, Any]:
        """Ask everybody who serves ``topic``; return {member id: reply} when all have replied.

        See ``open_channel.Channel.request_all()``, also for what it raises.
        """
        bus, inner = self._join(), self._inner
        return bus.run(lambda: inner.request_all(topic, data, timeout=timeout, type=type))

    # --- members, locks --------------------------------------------------------------------

    @property
    def member(self) -> str:
        """This member's own id, 32 hexadecimal digits; in a forked child it is another."""
        channel = self._channel
        return portal.call(lambda: channel.member)

    @property
    def members(self) -> list[Member]:
        """Who is here, as far as this member knows now; itself included once it is connected."""
        bus = self._join()
        return bus.call(bus.client.members)

    def watch_members(self) -> MemberChanges:
        """An iterator over the members that join and leave from now on, until it is closed."""
        return MemberChanges(self._join())

    def lock(self, name: str, *, timeout: float | None = None) -> Lock:
        """A lock that one process at a time holds; use it in ``with``.

        It is the kernel's: released at its holder's death, and never taken away from a living one.
        ``timeout`` is in seconds; None waits for ever, 0 tries once. Raises WaitTimeout when it
        passes.
        """
        files, claims = self._locking()
        return Lock(files, name, timeout, claims)

    def lead(self, name: str, run: Callable[[], _Result]) -> _Result:
        """Wait until this member leads ``name``, then call ``run()`` and return its result.

        Exactly one member leads while anybody wants to; when it dies or returns, the next one does
        within milliseconds. ``run`` is called in this thread. Raises TypeError for a coroutine
        function, and what the asyncio one raises.
        """
        if inspect.iscoroutinefunction(run):
            raise TypeError("what leads with the blocking API is a plain function")
        files, claims = self._locking()
        return lead(Lock(files, name, None, claims), run)

    def _locking(self) -> tuple[ChannelFiles, Claims]:
        if self._closed:
            raise ChannelClosed(name=self._name, reason=CLOSED_HERE)
        return portal.call(self._channel.locking)

    def stats(self) -> Stats:
        """Figures of this member's bus."""
        bus = self._join()
        return bus.call(bus.client.stats)
