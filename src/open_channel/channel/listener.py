"""The listener service: on the host, it gives each client's socket to the user's listener."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from open_channel.channel.conversation import Peer
from open_channel.channel.socket import ChannelSocket
from open_channel.errors import ChannelClosed, ChannelError
from open_channel.io.host import Host
from open_channel.io.lockfile import LockFile

if TYPE_CHECKING:
    from open_channel.io.guest import Guest
    from open_channel.io.member import Member

__all__ = ["SERVICE", "Listener", "ListenerHost"]

_log = logging.getLogger("open_channel")

SERVICE = "listener"

Listener = Callable[[ChannelSocket], Awaitable[None] | None]
"""Gets a socket for each client. A coroutine function's return closes the socket; a plain
function's leaves it open for whoever the function gave it to."""

_IN_HAND = 2.0  # seconds that listeners get to finish what they have in hand at a handover


class ListenerHost:
    """Hosts the listener service in one member whenever it wins the election."""

    holds_acks = True
    relays = False

    def __init__(self, member: Member, listener: Listener) -> None:
        self._member = member
        self._listener = listener
        self._host: Host | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def hosting(self) -> bool:
        """Whether this member hosts now."""
        return self._host is not None and self._host.hosting

    def start(self, lock: LockFile, epoch: int) -> bool:
        """See ``ServiceHost``."""
        self._host = Host.start(self._member, SERVICE, lock, epoch, self)
        return self._host is not None

    async def hand_over(self) -> None:
        """Leave the hosting in order, if there is one."""
        if self._host is not None:
            await self._host.hand_over()

    def step_down(self, reason: str) -> None:
        """Leave the hosting at once, if there is one."""
        if self._host is not None:
            self._host.step_down(reason)

    def begin(self, host: Host) -> None:
        """See ``Service``."""

    def opened(self, guest: Guest) -> None:
        """See ``Service``."""
        client = _Client(self._member, guest)
        task = asyncio.get_running_loop().create_task(self._listen(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self, client: _Client) -> None:
        socket = client.socket
        try:
            result = self._listener(socket)
            if not inspect.isawaitable(result):
                return
            await result
        except asyncio.CancelledError:
            self._end_soon(client, "its listener was cancelled", done=False)
            raise
        except ChannelClosed as error:
            if not client.over:
                self._failed(client, error)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):  # the loop ends by these
            raise
        except BaseException as error:  # whatever a user's listener raises
            self._failed(client, error)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            self._end_soon(client, "its listener has returned", done=True)
        else:
            client.shut(client.closed_because("its listener has returned"))

    @staticmethod
    def _end_soon(client: _Client, reason: str, *, done: bool) -> None:
        # Not in this turn of the loop: when the loop ends, all tasks are cancelled in one, and
        # what our host steps down from then is not ended for its clients: they go to another.
        error = client.closed_because(reason)
        shut = functools.partial(client.shut, error, done=done, meant=False)
        asyncio.get_running_loop().call_soon(shut)

    def _failed(self, client: _Client, error: BaseException) -> None:
        name, pid = self._member.files.name, client.peer.pid
        _log.error("%s: the listener failed with pid %d", name, pid, exc_info=error)

    async def finish(self) -> None:
        """See ``Service``."""
        tasks = set(self._tasks) - {asyncio.current_task()}
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_IN_HAND)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_IN_HAND)


class _Client:
    """One client at this host: the owner of the listener's socket."""

    def __init__(self, member: Member, guest: Guest) -> None:
        self.name = member.files.name
        self._guest = guest
        self.over = False
        self.peer = Peer(guest.peer.pid, guest.peer.uid, guest.member.hex())
        self.socket = ChannelSocket(guest.io, self, hosts=True)
        guest.on_over = self._over

    def _over(self) -> None:
        self.over = True
        self.socket.fail(self.closed_because("the client has gone"))

    def closed_because(self, reason: str) -> ChannelClosed:
        """What the listener's socket raises from then on."""
        return ChannelClosed(name=self.name, reason=reason)

    async def wait_connected(self) -> None:
        """See ``SocketOwner``."""

    def shut(self, error: ChannelError, *, done: bool = True, meant: bool = True) -> None:
        """See ``SocketOwner``: end our stream; the client reads it and leaves.

        ``done`` says that what the listener has in hand is done, ``meant`` that it ends by itself.
        """
        inbox = self._guest.io.session.inbox
        if done:
            inbox.in_hand = 0
        inbox.end_waits = 0
        inbox.messages.clear()  # nobody will read them
        if not self.over:
            self._guest.finish(meant=meant and not self.socket.goes_on())
            self.socket.fail(error)

    async def wait_closed(self) -> None:
        """See ``SocketOwner``."""
