"""A whole host, from the bytes of its connections up, between the innocent and the hostile.

Everything is the library's own but the event loop, the transports and the lock: the host with its
arrivals, guests and sessions, the broker, and the innocent members' sessions.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast
from unittest import mock

from open_channel.bus import host as bus_host
from open_channel.bus.core import records as r
from open_channel.errors import RemoteProtocolError
from open_channel.io.credentials import Credentials
from open_channel.io.directory import ChannelFiles
from open_channel.io.host import Host, _Arrival
from open_channel.io.member import Member
from open_channel.io.session_io import SessionIO
from open_channel.io.wire import Wire
from open_channel.protocol.batches import unpack
from open_channel.protocol.control import Hello, decode_welcome, encode_hello
from open_channel.protocol.frames import HEADER, Frame, Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.records import HostRecord
from tests.fuzz.brokers import HOSTILE, forged_in, no_trace
from tests.fuzz.chance import Chance
from tests.fuzz.decoders import check, reason_of
from tests.fuzz.engine import Step
from tests.fuzz.people import Innocent, innocents, judge
from tests.fuzz.script import Script, again
from tests.fuzz.speech import frame
from tests.fuzz.wires import Loop, NoSocket, Plug, plug_in

__all__ = ["Hosts"]

_LIMITS = Limits(
    max_message=1 << 16, window=1 << 15, outbox=1 << 22, drain=1 << 15, queue=1 << 18, lag=1.0
)
_PEOPLE = [bytes((number,)) * 16 for number in (1, 2, 3)]
_PID, _HOSTILE_PID = 7, 8
_HOSTING = 77
_AGREE = 20  # rounds of the pump that may pass until nothing moves


class Hosts:
    """What a hostile peer writes to a host's socket."""

    name = "hosts"

    def __init__(self) -> None:
        self._place = Place()

    def steps(self, chance: Chance) -> list[Step]:
        return Script(chance, _PEOPLE, HOSTILE, _HOSTING).steps()

    def play(self, steps: list[Step], refused: Counter[str]) -> int:
        stage = Stage(self._place, refused)
        with stage:
            for kind, *rest in steps:
                getattr(stage, kind)(*rest)
            stage.end()
        return stage.inputs


class Place:
    """A directory with the presence of those who live; made once, since files are slow."""

    def __init__(self) -> None:
        directory = tempfile.mkdtemp(prefix="oc-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        self.files = ChannelFiles.of(directory, "shop")
        self.living: list[Member] = []
        for member in [*_PEOPLE, HOSTILE[0]]:
            one = Member(self.files, _LIMITS, listens=False)
            one.id = member
            pid = _HOSTILE_PID if member in HOSTILE else _PID
            record = one._record._replace(member=member.hex(), bus=False, pid=pid)
            one.presence._record = record
            one.presence.assure()
            self.living.append(one)
        self.host = self.living[0]


class _Lock:
    """It is held, and nobody deposes its holder."""

    path = ""

    def holds(self) -> bool:
        return True

    def release(self) -> None:
        """The case is over."""


class _Lines(logging.Handler):
    """What is logged at a level that users see."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Stage:
    """One case: the host, three innocents, two that are hostile."""

    def __init__(self, place: Place, refused: Counter[str]) -> None:
        self.place = place
        self.refused = refused
        self.inputs = 0
        self.loop = Loop()
        self.lines = _Lines()
        self.connections = 0
        self.plugs: list[Plug | None] = [None, None]
        self.heard = [0, 0]
        self.counters = [0, 0]
        self.forged: set[tuple[bytes, int, str]] = set()

    def __enter__(self) -> None:
        asyncio._set_running_loop(self.loop.as_asyncio())
        logging.getLogger("open_channel").addHandler(self.lines)
        self._chance = mock.patch.multiple("open_channel.bus.host", chance=lambda: 0.5)
        self._chance.start()
        self._guests = mock.patch.multiple("open_channel.io.guest", chance=lambda: 0.5)
        self._guests.start()
        record = HostRecord("shop", "broker", _HOSTING, 2, "s", 7, _PEOPLE[0].hex(), 0.0)
        self.service = bus_host.BrokerService(self.place.host)
        lock = cast("Any", _Lock())
        self.host = Host(
            self.place.files, lock, record, _LIMITS, self.service, self.place.host.arena
        )
        self.service.begin(self.host)
        self.host._tick = cast("Any", self.loop.call_later(_LIMITS.heartbeat, self.host._beat))
        self.clients = [Client(self, who) for who in innocents(_LIMITS)]
        for client in self.clients:
            client.connect()
        self._settle()
        for client in self.clients:
            check(client.welcomed, "an innocent member is not welcomed")

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(None)
        logging.getLogger("open_channel").removeHandler(self.lines)
        self._chance.stop()
        self._guests.stop()

    def arrive(self, pid: int) -> Plug:
        """A connection is accepted; returns the other end."""
        credentials = Credentials(pid, os.geteuid())
        sock = cast("Any", NoSocket())
        arrival = _Arrival(self.host, credentials, sock, self.loop.now + 10.0)
        self.host._arrivals.add(arrival)
        self.connections += 1
        return plug_in(self.loop, arrival._wire)

    # --- the hostile -----------------------------------------------------------------------

    def connect(self, who: int, data: bytes, counter: int = 0) -> None:
        self.drop(who)
        self.counters[who] = counter
        self.plugs[who] = self.arrive(_HOSTILE_PID)
        self.heard[who] = 0
        self.send(who, data, 0)

    def send(self, who: int, data: bytes, piece: int) -> None:
        plug = self.plugs[who]
        if plug is not None and plug.peer is not None and plug.peer.closing:
            # What it says to a closed connection nobody hears.
            self.counters[who] += 1
            self.connect(who, again(HOSTILE[who], self.counters[who]), self.counters[who])
            plug = self.plugs[who]
        self.inputs += 1
        if plug is None or plug.peer is None:
            return
        self._note(data)
        near = plug.peer
        near.incoming += data
        while near.incoming and not near.closing and near.feed(piece or 1 << 30):
            self.loop.run()
        self.loop.run()

    def flood(self, who: int, data: bytes, times: int) -> None:
        self.send(who, data * times, 0)
        self.inputs += times - 1
        self._settle()

    def _note(self, data: bytes) -> None:
        for kind, number, payload in _frames_of(data):
            if kind == Kind.MESSAGES:
                try:
                    records = unpack(payload, number)
                except RemoteProtocolError:
                    return
                for record in records:
                    self.forged.update(forged_in(record))

    def read(self, who: int, ack: int) -> None:
        """Read all there is; acknowledge it, when ``ack`` is 0, or so much more or less."""
        plug = self.plugs[who]
        if plug is None or plug.peer is None:
            return
        self._hear(who, plug.take())
        if not plug.peer.closing:
            number = max(0, self.heard[who] + ack)
            self.send(who, frame(Kind.ACK, 0, number), 0)
            self.inputs -= 1

    def _hear(self, who: int, data: bytes) -> None:
        for kind, number, payload in _frames_of(data):
            if kind == Kind.WELCOME:
                self.heard[who] = 0
            elif kind == Kind.MESSAGES:
                self.heard[who] += number
                for record in unpack(payload, number):
                    self._handed(record)

    def _handed(self, record: bytes) -> None:
        if record[:1] == bytes((r.JOB,)):
            job = r.decode_job(record)
            for group in ("g jobs", ""):
                self.forged.add((job.publication.sender, job.seq, group))

    def drop(self, who: int) -> None:
        plug, self.plugs[who] = self.plugs[who], None
        if plug is not None:
            plug.close()
            if plug.peer is not None:
                plug.peer.feed()
            self.loop.run()

    # --- the innocent ----------------------------------------------------------------------

    def publish(self, index: int, topic: str, count: int) -> None:
        self.clients[index].who.publish(topic, count)
        self._settle()

    def ask(self, index: int, to: bytes) -> None:
        self.clients[index].who.ask(to)
        self._settle()

    def sleep(self, seconds: float) -> None:
        self._settle()
        self.loop.sleep(seconds)
        self._settle()

    def _settle(self) -> None:
        for _ in range(_AGREE):
            moved = False
            for client in self.clients:
                client.tell()
                for plug in (client.plug, client.plug.peer):
                    moved |= plug is not None and plug.protocol is not None and plug.feed()
            self.loop.run()
            if not moved:
                return

    # --- the end ---------------------------------------------------------------------------

    def end(self) -> None:
        self._settle()
        for who in (0, 1):
            self.drop(who)
        self._forget_hostile()
        for _ in range(8):
            self.sleep(1.0)
        for client in self.clients:
            check(client.lost == 0, "an innocent member lost its connection")
        judge([client.who for client in self.clients], self.forged)
        no_trace(self.service.broker, _PEOPLE)
        check(set(self.host._guests) == set(_PEOPLE), "guests that have gone")
        check(not self.host._arrivals, "arrivals that have gone")
        check(set(self.service._attendants) == set(_PEOPLE), "attendants of the gone")
        # One reason for each connection that ended, and no more.
        told = len(self.lines.lines)
        check(told <= self.connections, f"{told} warnings for {self.connections} connections")
        for line in self.lines.lines:
            self.refused[reason_of(line.partition(" ended: ")[2] or line)] += 1

    def _forget_hostile(self) -> None:
        """The one whose process lives goes as well: it says goodbye for good."""
        guest = self.host._guests.get(HOSTILE[0])
        if guest is not None:
            guest.gone()
        self.loop.run()


def _frames_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, number and payload of the frames in some bytes, as far as they go.

    Not the decoder: its buffers, made anew for each piece, would take most of the time.
    """
    place = 0
    while place + HEADER.size <= len(data):
        length, kind, _, number, _ = HEADER.unpack_from(data, place)
        place += HEADER.size + length
        if place > len(data):
            return
        yield kind, number, data[place - length : place]


class Client:
    """An innocent member's end: see ``WireOwner``, ``SessionKeeper`` and ``SessionUser``."""

    def __init__(self, stage: Stage, who: Innocent) -> None:
        self.stage = stage
        self.who = who
        self.io = SessionIO(who.session, stage.loop.as_asyncio(), self)
        self.io.user = self
        self.welcomed = False
        self.lost = 0

    def connect(self) -> None:
        far = self.stage.arrive(_PID)
        near = far.peer
        assert near is not None
        wire = Wire(cast("Any", NoSocket()), self, "an innocent member")
        far.protocol = wire
        wire.connection_made(cast("asyncio.BaseTransport", far))
        self.plug = far
        self.wire = wire
        first = Hello("b", self.who.id, 1, 0, 0, _LIMITS.window, _LIMITS.max_message)
        wire.write([encode_hello(first)])

    def frames_received(self, frames: list[Frame]) -> None:
        check(frames[0].kind == Kind.WELCOME, "an innocent member is refused")
        welcome = decode_welcome(frames[0])
        session = self.who.session
        session.welcomed(welcome.hosting, welcome.received, resumed=welcome.resumed)
        session.outbox.agree(welcome.window, welcome.max_message)
        self.wire.decoder.limit = _LIMITS.max_payload
        self.welcomed = True
        self.io.attach(self.wire, resumed=False)

    def writable(self) -> None:
        """The hello fits."""

    def wire_lost(self, reason: str) -> None:
        self.lost += 1

    def session_lost(self, reason: str) -> None:
        self.lost += 1

    def session_left(self) -> None:
        self.lost += 1

    def session_ended(self) -> None:
        self.lost += 1

    def opened(self) -> None:
        self.who.core.opened()

    def received(self, *, arrived: bool, acknowledged: bool) -> None:
        inbox = self.who.session.inbox.messages
        while inbox:
            self.who.core.receive(inbox.popleft())
        self.who.work()
        self.who.core.flush()

    def attached(self) -> None:
        """What counts is what the broker acknowledges."""

    def over(self) -> None:
        self.lost += 1

    def tell(self) -> None:
        """What was said in this turn leaves at its end."""
        if self.welcomed:
            self.who.core.flush()
            self.io.flush()
