"""The host of a service: accepts, checks who is there, shakes hands, resumes and parks sessions.

What a session is used for is the service's business. A host exists from the moment its member has
won the lock until it hands over (in order) or steps down (because another has been put in its
place); its member goes on as a member like the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from typing import TYPE_CHECKING
from weakref import WeakSet

from open_channel.errors import RemoteProtocolError
from open_channel.io import fork
from open_channel.io.credentials import Credentials, credentials
from open_channel.io.directory import ChannelFiles, remove_file
from open_channel.io.guest import Guest
from open_channel.io.lockfile import LockFile, file_status, read_file
from open_channel.io.member import Member
from open_channel.io.presence import pid_of, remove_dead
from open_channel.io.pulse import Pulse
from open_channel.io.wire import Wire
from open_channel.protocol.control import (
    Hello,
    Refusal,
    Welcome,
    decode_hello,
    encode_refusal,
    encode_welcome,
    version_of,
)
from open_channel.protocol.frames import VERSION, Frame, Kind, encode
from open_channel.protocol.limits import Limits
from open_channel.protocol.records import HostRecord, decode_host, encode_record
from open_channel.protocol.states import ACCEPTED, ConnectionState

if TYPE_CHECKING:
    from open_channel.io.arena import Arena, Foreign
    from open_channel.io.interfaces import Service

__all__ = ["Host"]

_log = logging.getLogger("open_channel")

_BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn
_ACCEPTS = 64  # connections taken in one turn of the loop
_FENCE = 0.5  # seconds for which a fence check is trusted, where the timeout is not shorter
_HANDSHAKE = 10.0  # seconds a connection may take to say hello
_STALE = 10.0  # seconds: the age of a socket file with nobody behind it that may be removed


class Host:
    """One hosting of one service."""

    def __init__(
        self,
        files: ChannelFiles,
        lock: LockFile,
        record: HostRecord,
        limits: Limits,
        service: Service,
        arena: Arena | None = None,
    ) -> None:
        self.files = files
        self.arena = arena
        self.held: WeakSet[Foreign] = WeakSet()
        """Where members' large messages lie that are handed on."""
        self.record = record
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self._lock = lock
        self.service = service
        self._path = files.path(record.socket)
        self._guests: dict[bytes, Guest] = {}
        self._leaving = False
        self._arrivals: set[_Arrival] = set()
        self._fenced = self.loop.time()
        self._trust = min(_FENCE, limits.timeout / 2)  # less than it takes to be deposed
        self._tick: asyncio.TimerHandle | None = None
        self._listening: socket.socket | None = None
        self._pulse: Pulse | None = None
        self.hosting = True
        """Whether it hosts; it never does again once it does not."""

    # --- begin -----------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        member: Member,
        service: str,
        lock: LockFile,
        epoch: int,
        provider: Service,
    ) -> Host | None:
        """Begin to host: bind, publish, serve; None when another has put its lock in place first.

        Raises OSError or RuntimeError, which a thread that cannot be started does, when it cannot
        be. The lock is released then.
        """
        hosting = int.from_bytes(os.urandom(8), "big") >> 1 or 1
        # At the path, since the lock of one who deposes another is on a file of its own still.
        previous = decode_host(read_file(lock.path)[0])
        record = HostRecord(
            name=member.files.name,
            service=service,
            hosting=hosting,
            epoch=epoch,
            socket=member.files.socket(service[0], hosting),
            pid=os.getpid(),
            member=member.id.hex(),
            since=time.time(),
            heartbeat=float(member.limits.heartbeat),
            lineage=previous.lineage if previous is not None else hosting,
        )
        host = cls(member.files, lock, record, member.limits, provider, member.arena)
        try:
            host.bind()
            host.publish()
            if not lock.put_in_place():
                host.step_down("another has deposed the hung host")
                return None
            provider.begin(host)
            host.serve()
        except BaseException:
            host._stop_listening()
            host._release()
            raise
        _log.info("%s: elected, pid %d, epoch %d", member.files.name, record.pid, epoch)
        return host

    def bind(self) -> None:
        """Listen on this hosting's own socket; nobody knows of it yet.

        Raises OSError.
        """
        with fork.guard:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.bind(self._path)
                sock.listen(_BACKLOG)
            except OSError:
                sock.close()
                raise
            self._listening = sock
            fork.watch(self)

    def publish(self) -> None:
        """Let the others know; the lock must be held."""
        previous = decode_host(self._lock.read())
        self._lock.write(encode_record(self.record))
        if previous is not None:
            # Its lock was free, so its hosting is over, and the file's name is its alone. Not the
            # name that it tells: whoever has forged it may have told another file's.
            service = self.record.service[0]
            remove_file(self.files.path(self.files.socket(service, previous.hosting)))

    def serve(self) -> None:
        """Begin to accept."""
        assert self._listening is not None
        self.loop.add_reader(self._listening, self._accept)
        self._pulse = Pulse(self._lock.path, self.limits.heartbeat, self._lives)
        self._tick = self.loop.call_later(self.limits.heartbeat, self._beat)
        self.loop.call_soon(self._remove_stale)

    def _remove_stale(self) -> None:
        prefix = f"{self.files.key}.{self.record.service[0]}."
        with contextlib.suppress(OSError):
            for entry in os.listdir(self.files.directory):
                if entry.startswith(prefix) and entry != self.record.socket:
                    _remove_dead_socket(self.files.path(entry))
        remove_dead(self.files)

    # --- while it hosts --------------------------------------------------------------------

    def fence(self) -> bool:
        """Whether this hosting still holds, checked every half second at most.

        A host that was stopped for long enough to be replaced finds the last check too old, and
        so checks before it acts on anything that it finds after it wakes.
        """
        if not self.hosting:
            return False
        now = self.loop.time()
        if now - self._fenced < self._trust:
            return True
        return self.fence_now()

    def fence_now(self) -> bool:
        """Whether this hosting holds at this moment; it steps down when not."""
        if self.hosting and self._lock.holds():
            self._fenced = self.loop.time()
            return True
        self.step_down("its lock file was replaced or removed")
        return False

    def _beat(self) -> None:
        if not self.fence_now():
            return
        if self._listening is not None and file_status(self._path) is None:
            self.step_down("its socket was removed")  # nobody would find it any more
            return
        ping = [encode(Kind.PING)]
        for guest in self._guests.values():
            guest.beat(ping)
        now = self.loop.time()
        for arrival in list(self._arrivals):
            arrival.expire(now)
        self._tick = self.loop.call_later(self.limits.heartbeat, self._beat)

    def _accept(self) -> None:
        assert self._listening is not None
        for _ in range(_ACCEPTS):
            try:
                with fork.guard:
                    arrival = self._arrive(self._listening.accept()[0])
            except BlockingIOError:
                return
            except OSError as error:
                # Out of descriptors or memory: those who wait in the backlog try again, and so do
                # we, at the next beat, instead of spinning on a socket that stays readable.
                if error.errno != errno.ECONNABORTED:
                    _log.error("%s: cannot accept: %s", self.files.name, error)
                    self._rest()
                    return
                continue
            if arrival is not None:
                arrival.start()

    def _rest(self) -> None:
        if self._listening is not None:
            self.loop.remove_reader(self._listening)
            self.loop.call_later(self.limits.heartbeat, self._resume)

    def _resume(self) -> None:
        if self._listening is not None:
            self.loop.add_reader(self._listening, self._accept)

    def _arrive(self, sock: socket.socket) -> _Arrival | None:
        sock.setblocking(False)
        try:
            peer = credentials(sock)
        except OSError:
            sock.close()
            return None
        arrival = _Arrival(self, peer, sock, self.loop.time() + _HANDSHAKE)
        self._arrivals.add(arrival)
        return arrival

    def departed(self, arrival: _Arrival) -> None:
        """A connection is gone, or has become a guest's."""
        self._arrivals.discard(arrival)

    # --- hello -----------------------------------------------------------------------------

    def admit(self, hello: Hello, peer: Credentials, wire: Wire) -> Refusal | None:
        """Open or resume a member's session on a wire.

        Raises RemoteProtocolError when the hello contradicts the session.
        """
        if hello.service != self.record.service[0]:
            return Refusal("service", f"this is the {self.record.service}, not {hello.service!r}")
        if self.service.relays and hello.max_message < (most := self.limits.max_message):
            reason = (
                f"it takes messages of {hello.max_message} bytes, and there may be ones of {most},"
                " headers included"
            )
            return Refusal("other", reason)
        if not self.fence_now():
            return Refusal("stale", "no longer the host")
        guest = self._guests.get(hello.member)
        if guest is not None and guest.peer.pid != peer.pid:
            # An id is one process's alone; where two claim it, its presence file tells whose.
            if pid_of(self.files, hello.member) != peer.pid:
                return Refusal("stale", f"this member is pid {guest.peer.pid}")
            guest.gone()
            guest = None
        if guest is not None and hello.counter <= guest.counter:
            return Refusal("stale", f"connection {hello.counter} after {guest.counter}")
        resumed = guest is not None and hello.hosting == self.record.hosting
        if guest is None or not resumed:
            if self._leaving:  # it would be told neither to stop nor to go
                return Refusal("stale", "it hands over")
            if guest is not None:
                guest.gone()
            guest = self._guests[hello.member] = Guest(self, hello, peer)
        guest.resume(hello, resumed=resumed)
        wire.decoder.limit = self.limits.max_payload
        wire.write([encode_welcome(self._welcome(guest, resumed=resumed))])
        guest.io.attach(wire, resumed=resumed)
        if not resumed:
            _log.debug("%s: member %s, pid %d", self.files.name, hello.member.hex(), peer.pid)
            self.service.opened(guest)
        return None

    def _welcome(self, guest: Guest, *, resumed: bool) -> Welcome:
        return Welcome(
            hosting=self.record.hosting,
            epoch=self.record.epoch,
            member=bytes.fromhex(self.record.member),
            pid=self.record.pid,
            resumed=resumed,
            received=guest.io.session.inbox.received,
            window=self.limits.window,
            max_message=self.limits.max_message,
        )

    def forget(self, guest: Guest) -> None:
        """A guest's session is over on both sides."""
        if self._guests.get(guest.member) is guest:
            del self._guests[guest.member]

    # --- end -------------------------------------------------------------------------------

    async def hand_over(self) -> None:
        """Leave in order: stop taking, finish what is in hand, flush, release, say goodbye."""
        if not self.hosting:
            return
        if self.loop.is_closed():
            self._abandon()
            return
        self._stop_listening()
        self._leaving = True
        guests = list(self._guests.values())
        for guest in guests:
            guest.stop()
        await self.service.finish()
        if not self.hosting:
            return  # deposed meanwhile
        for guest in guests:
            guest.io.flush()
        self._release()
        for guest in guests:
            guest.dismiss(encode(Kind.GOODBYE))
        _log.info("%s: handed over by pid %d", self.files.name, self.record.pid)

    def step_down(self, reason: str) -> None:
        """Another is, or will be, the host: drop everything, at once."""
        if not self.hosting:
            return
        _log.info("%s: pid %d steps down: %s", self.files.name, self.record.pid, reason)
        self._stop_listening()
        self._release()
        for guest in list(self._guests.values()):
            guest.stop()
            guest.dismiss(None)

    def _lives(self) -> bool:
        """Asked by the pulse, in its thread: a closed event loop will never answer anybody."""
        if not self.loop.is_closed():
            return True
        self._abandon()
        return False

    def _abandon(self) -> None:
        """The event loop was closed under this hosting: step down without it, in any thread."""
        if not self.hosting:
            return
        _log.warning("%s: pid %d: its event loop was closed", self.files.name, self.record.pid)
        self.hosting = False
        with fork.guard:
            fork.unwatch(self)
            if self._listening is not None:
                self._listening.close()
                remove_file(self._path)
        if self._pulse is not None:
            self._pulse.stop()
        self._lock.release()
        for guest in list(self._guests.values()):
            if (wire := guest.io.wire) is not None:
                # Not closed: the descriptor is the dead loop's.
                with contextlib.suppress(OSError):
                    wire.sock.shutdown(socket.SHUT_RDWR)

    def _release(self) -> None:
        self.hosting = False
        fork.unwatch(self)
        if self._tick is not None:
            self._tick.cancel()
        if self._pulse is not None:
            self._pulse.stop()
        self._lock.release()
        # Nothing is handed on any more, and somebody may have a broker that is none for long.
        for memory in list(self.held):
            memory.close()
        for arrival in list(self._arrivals):
            arrival.abort("no longer the host")

    def _stop_listening(self) -> None:
        if (sock := self._listening) is not None:
            self.loop.remove_reader(sock)
            with fork.guard:
                self._listening = None
                sock.close()
            remove_file(self._path)  # this hosting's own: nobody else ever has this name

    def forked(self) -> None:
        """In a child: see ``io.fork``."""
        self.hosting = False
        if self._listening is not None and (fd := self._listening.detach()) >= 0:
            os.close(fd)


class _Arrival:
    """A connection whose hello has not come yet."""

    def __init__(self, host: Host, peer: Credentials, sock: socket.socket, deadline: float) -> None:
        self._host = host
        self._peer = peer
        self._deadline = deadline
        self._wire = Wire(sock, self, f"{host.files.name}: connection of pid {peer.pid}")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._host.loop.create_task(self._start())
        self._task.add_done_callback(self._started)

    async def _start(self) -> None:
        try:
            await self._wire.start()
        except OSError as error:
            self.wire_lost(str(error))

    def _started(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before it began, maybe, as the event loop's end does
            self._wire.sock.close()

    def expire(self, now: float) -> None:
        if now > self._deadline:
            self.abort(f"no hello within {_HANDSHAKE} s")

    def abort(self, reason: str) -> None:
        self._wire.abort(reason)

    def frames_received(self, frames: list[Frame]) -> None:
        refusal = self._answer(frames[0])
        self._host.departed(self)
        if refusal is not None:
            name, pid = self._host.files.name, self._peer.pid
            level = logging.DEBUG if refusal.code == "stale" else logging.WARNING
            _log.log(level, "%s: refused pid %d: %s", name, pid, refusal.reason)
            self._wire.write([encode_refusal(refusal)])
            self._wire.close()

    def _answer(self, frame: Frame) -> Refusal | None:
        if frame.kind not in ACCEPTED[ConnectionState.AWAITING_HELLO]:
            raise RemoteProtocolError(reason=f"{Kind(frame.kind).name} before a hello")
        if (theirs := version_of(frame)) != VERSION:
            return Refusal("version", f"protocol {theirs}, not {VERSION}", VERSION, theirs)
        if (uid := self._peer.uid) != (ours := os.geteuid()):
            return Refusal("user", f"user {uid}, not {ours}", ours, uid)
        return self._host.admit(decode_hello(frame), self._peer, self._wire)

    def writable(self) -> None:
        """Nothing is written before the hello."""

    def wire_lost(self, reason: str) -> None:
        self._host.departed(self)
        _log.debug("%s: pid %d: %s", self._host.files.name, self._peer.pid, reason)


def _remove_dead_socket(path: str) -> None:
    """Remove a socket file that nobody listens on, unless it is about to be listened on."""
    try:
        if time.time() - os.stat(path).st_mtime < _STALE:
            return
        with fork.guard, socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except ConnectionRefusedError:
        remove_file(path)
    except OSError:
        return
