"""A real host process, real members, and a hostile peer at the host's real socket.

The host must live on, with its memory bounded and no descriptor leaked; what it logs must be one
reason for each connection that ended; and the members must not notice: no connection lost, each
message exactly once and in order, each job done once, each request answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_channel.errors import RemoteProtocolError
from open_channel.io.directory import ChannelFiles
from open_channel.io.lockfile import read_file
from open_channel.io.member import Member
from open_channel.protocol.control import decode_refusal
from open_channel.protocol.frames import Decoder, Kind
from open_channel.protocol.limits import Limits
from open_channel.protocol.records import HostRecord, decode_host
from tests.fuzz.chance import Chance
from tests.fuzz.decoders import check
from tests.fuzz.engine import Failure, Result
from tests.fuzz.script import Script, again
from tests.fuzz.speech import frame
from tests.processes import Process, Processes, wait_for

__all__ = ["NAME", "fuzz_real"]

NAME = "real"
SCRIPT = Path(__file__).with_name("member_script.py")
LIMITS = {
    "max_message": 1 << 20,
    "window": 1 << 18,
    "queue": 1 << 22,
    "heartbeat": 0.5,
    "timeout": 10.0,
    "lag": 5.0,
}
HOST_LIMITS = LIMITS | {"timeout": 4.0}
"""The host's: it waits twice this timeout for a hostile that lives and is gone, and what the others
are owed waits as long. The members' patience is their own, and nobody here could take over."""
MEMBERS = 3
_SHARED = 2  # descriptors of the memory that the host shares, once it has handed on something large
_GROWTH = 64 << 20  # bytes by which the host may grow while it is fed, with such limits
_LATE = 60.0  # seconds for what takes milliseconds, beside a peer that floods


class Peer:
    """The hostile end of one connection."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_LATE)  # a host always reads
        self.sock.connect(path)
        self.decoder = Decoder(1 << 30)
        self.heard = 0
        self.over = False
        self.refusals: Counter[str] = Counter()

    def send(self, data: bytes) -> None:
        if not self.over:
            try:
                self.sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                self.over = True

    def read(self) -> None:
        """All that is here now."""
        self.sock.setblocking(False)
        self._read()
        self.sock.settimeout(_LATE)

    def _read(self) -> None:
        while not self.over:
            room = self.decoder.get_buffer()
            try:
                count = self.sock.recv_into(room)
            except BlockingIOError:
                return
            except ConnectionResetError:
                count = 0
            if not count:
                self.over = True
                return
            while frames := self.decoder.received(count):
                count = 0
                for found in frames:
                    if found.kind == Kind.MESSAGES:
                        self.heard += found.number
                    elif found.kind == Kind.REFUSAL:
                        self.refusals[decode_refusal(found).code] += 1

    def close(self) -> None:
        self.sock.close()


def status(pid: int) -> tuple[int, int]:
    """The bytes of memory a process has in use, and how many descriptors."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


@dataclass
class Scene:
    """The processes, and what was seen of them."""

    directory: str
    processes: Processes
    host: Process = field(init=False)
    members: list[Process] = field(init=False)
    ids: list[bytes] = field(init=False)
    memory: int = 0
    most: int = 0
    descriptors: int = 0

    def begin(self) -> HostRecord:
        self.host = self._start("host")
        opened = [self.host.expect("opened", timeout=_LATE)["opened"]]
        self.members = [self._start("member") for _ in range(MEMBERS)]
        for member in self.members:
            opened.append(member.expect("opened", timeout=_LATE)["opened"])
            member.expect("ready", timeout=_LATE)
        self.ids = [bytes.fromhex(one) for one in opened]
        self.files = ChannelFiles.of(self.directory, "shop")
        record = decode_host(read_file(self.files.lock("b"))[0])
        assert record is not None
        assert record.pid == self.host.pid
        for member in self.members:
            member.send("go")
        self.memory, self.descriptors = status(self.host.pid)
        return record

    def _start(self, role: str) -> Process:
        environment = {**os.environ, "OPEN_CHANNEL_DIR": self.directory}
        limits = HOST_LIMITS if role == "host" else LIMITS
        return self.processes(SCRIPT, json.dumps(limits), role, env=environment)

    def look(self) -> None:
        memory, _ = status(self.host.pid)
        self.most = max(self.most, memory - self.memory)
        check(self.most < _GROWTH, f"the host has grown by {self.most >> 20} MiB")

    def end(self, connections: int) -> None:
        """Let them come to the end; what must hold then."""
        for member in self.members:
            member.send("stop")
        flushed = [member.expect("flushed", timeout=_LATE)["flushed"] for member in self.members]
        wait_for(
            lambda: status(self.host.pid)[1] <= self.descriptors + 1 + _SHARED,
            "the host has closed the descriptors of connections that ended",
        )
        published = dict(zip([one.hex() for one in self.ids[1:]], flushed, strict=True))
        jobs = sum(published.values())
        wait_for(lambda: self._jobs() >= jobs, "all jobs are done", _LATE)
        reports = [self._report(member) for member in self.members]
        for report in reports:
            self._judge(report, published)
        done = [(who, number) for report in reports for who, number in report["jobs"]]
        check(len(done) == len(set(done)) == jobs, f"{len(done)} done of {jobs} jobs, or twice")
        self._judge_logs(connections)

    @staticmethod
    def _report(member: Process) -> dict[str, Any]:
        before = len(member.events)
        member.send("report")
        return member.expect("last", after=before, timeout=_LATE)

    def _jobs(self) -> int:
        return sum(len(self._report(member)["jobs"]) for member in self.members)

    @staticmethod
    def _judge(report: dict[str, Any], published: dict[str, int]) -> None:
        check(not report["wrong"], f"not in order: {report['wrong']}")
        check(not report["missed"], f"{report['missed']} messages missed")
        check(not report["takeovers"], "another host")
        check(set(report["outcomes"]) == {"reply"}, f"requests: {report['outcomes']}")
        for who, count in published.items():
            for stream in ("> news", "> held", "held held"):
                last = report["last"].get(f"{stream} {who}")
                check(last == count, f"{last} of {count} on {stream!r}")

    def _judge_logs(self, connections: int) -> None:
        lines = self.host.errors().splitlines()
        odd = [line for line in lines if not line.startswith("WARNING shop: ")]
        check(not odd, f"the host has written {odd[:20]}")
        check(len(lines) <= connections, f"{len(lines)} lines for {connections} connections")
        for member in self.members:
            lines = member.errors().splitlines()
            told = [x for x in lines if "lost the host" in x or not x.startswith("INFO")]
            check(not told, f"a member has written {told[:5]}")


class Attack:
    """Plays scripts at the host's socket."""

    def __init__(self, scene: Scene, path: str, refused: Counter[str]) -> None:
        self.scene = scene
        self.path = path
        self.refused = refused
        self.peers: list[Peer | None] = [None, None]
        self.inputs = 0
        self.connections = 0
        self.hostile: list[bytes] = []
        self.counters = [0, 0]

    def play(self, step: tuple[Any, ...]) -> None:
        kind, who, *rest = step
        if kind == "connect":
            self._connect(who, *rest)
        elif kind == "send":
            self._send(who, rest[0])
        elif kind == "flood":
            self._send(who, rest[0] * rest[1], rest[1])
        elif kind == "read":
            self._read(who, rest[0])
        elif kind == "drop":
            self._drop(who)

    def _connect(self, who: int, data: bytes, counter: int) -> None:
        self._drop(who)
        self.counters[who] = counter
        self.peers[who] = Peer(self.path)
        self.connections += 1
        self._send(who, data)

    def _send(self, who: int, data: bytes, inputs: int = 1) -> None:
        peer = self.peers[who]
        if peer is not None and peer.over:
            # What it says to a closed connection nobody hears.
            self.counters[who] += 1
            self._connect(who, again(self.hostile[who], self.counters[who]), self.counters[who])
            peer = self.peers[who]
        self.inputs += inputs
        if peer is not None:
            peer.send(data)

    def _read(self, who: int, more: int) -> None:
        if (peer := self.peers[who]) is not None:
            peer.read()
            peer.send(frame(Kind.ACK, 0, max(0, peer.heard + more)))

    def _drop(self, who: int) -> None:
        peer, self.peers[who] = self.peers[who], None
        if peer is not None:
            with contextlib.suppress(RemoteProtocolError):
                peer.read()
            self.refused["ended"] += peer.over
            self.refused += peer.refusals
            peer.close()

    def end(self) -> None:
        for who in range(len(self.peers)):
            self._drop(who)


def fuzz_real(seed: int, *, inputs: int = 0, seconds: float = 0.0) -> Result:
    """Attack one host for so long; see ``engine.fuzz()``."""
    result = Result(NAME, seed)
    processes = Processes()
    with tempfile.TemporaryDirectory(prefix="oc-", dir="/tmp") as directory:
        try:
            _attack(result, Scene(directory, processes), inputs, seconds)
        except (AssertionError, OSError) as error:
            where = f"case {result.cases}"
            result.failure = Failure(result.cases, [], f"{type(error).__name__}: {error}", where)
        finally:
            processes.end()
    return result


def _attack(result: Result, scene: Scene, inputs: int, seconds: float) -> None:
    record = scene.begin()
    attack = Attack(scene, scene.files.path(record.socket), result.refused)
    mine = Member(scene.files, Limits(), listens=False)
    mine.presence.assure()  # one of the hostile is a living process, the other was never seen
    hostile = [mine.id, os.urandom(16)]
    began = time.monotonic()
    try:
        while True:
            chance = Chance(f"{NAME} {result.seed} {result.cases}")
            script = Script(chance, scene.ids, hostile, record.hosting, forges=False)
            # The one that stays has connected before, in other cases.
            script.counters = [result.cases << 20, 0]
            attack.hostile = list(hostile)
            for step in script.steps():
                attack.play(step)
            scene.look()
            result.cases += 1
            result.inputs = attack.inputs
            result.seconds = time.monotonic() - began
            if (inputs and result.inputs >= inputs) or (seconds and result.seconds >= seconds):
                break
            hostile[1] = os.urandom(16)
    finally:
        attack.end()
        mine.presence.leave()
    scene.end(attack.connections)
