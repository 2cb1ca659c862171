"""The processes of a chaos run, seen from outside: how they are started, signalled and read.

Everything that is known of them comes from their ledgers and from the kernel.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

from open_channel.io.directory import ChannelFiles
from open_channel.io.lockfile import is_locked, read_file
from open_channel.protocol.records import decode_host
from tests.chaos.notes import Config
from tests.chaos.part import CHANNEL
from tests.processes import forking, wait_for

__all__ = ["SERVICES", "Actor", "Crew", "Ledger"]

SERVICES = {"broker": "b", "listener": "l"}
_SCRIPT = Path(__file__).with_name("nursery.py")


class Ledger:
    """What one process has written down, as far as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, list[list[Any]]] = defaultdict(list)
        self._up_to = 0

    def of(self, *kinds: str) -> list[list[Any]]:
        """The entries of these kinds; the last line may have been cut short by a kill."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._up_to)
                lines, cut, _ = file.read().rpartition(b"\n")
            self._up_to += len(lines) + len(cut)
            for line in lines.splitlines():
                kind, *entry = json.loads(line)
                self.entries[kind].append(entry)
        return [entry for kind in kinds for entry in self.entries[kind]]


class Actor:
    """One process, or a child that one has forked."""

    def __init__(self, config: Config, *, stays: bool, parent: Actor | None = None) -> None:
        self.config = config
        self.name = config.name
        self.role = config.role
        self.stays = stays
        """Whether it is there, and in touch, from the begin to the end."""
        self.parent = parent
        self.ledger = Ledger(Path(config.ledger))
        self.errors = Path(config.ledger).with_suffix(".err")
        self.pid = 0
        self.born = time.monotonic()
        self.killed: float | None = None
        self.leaving: float | None = None
        self.stops: list[tuple[float, float]] = []
        """When it was stopped, from and to."""
        self.stopped = False
        self.busy_until = 0.0
        """Until when it is stopped, its event loop is blocked, or its interpreter held."""
        self._stdin = -1
        self._pidfd = -1

    def __repr__(self) -> str:
        return f"{self.name} ({self.config.runtime}, {self.pid})"

    def attach(self, pid: int, stdin: int) -> None:
        self.pid = pid
        self._stdin = stdin
        self._pidfd = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs, or is stopped."""
        return self._pidfd >= 0 and not select.select([self._pidfd], [], [], 0)[0]

    @property
    def present(self) -> bool:
        """Whether something can befall it: it was not killed, and does not leave."""
        return self.killed is None and self.leaving is None and self.parent is None

    def do(self, command: str, **arguments: Any) -> None:
        with suppress(BrokenPipeError):  # it is dead; whether it may be is judged in the end
            os.write(self._stdin, (json.dumps([command, arguments]) + "\n").encode())

    def leave(self) -> None:
        self.leaving = time.monotonic()
        self.do("leave")

    def kill(self) -> None:
        self.killed = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        self.wait_end(5.0)
        self.close()

    def stop(self) -> None:
        self.stopped = True
        self.stops.append((time.monotonic(), float("inf")))
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        if self.alive:
            os.kill(self.pid, signal.SIGCONT)
        self.stopped = False
        self.stops[-1] = (self.stops[-1][0], time.monotonic())

    def wait_end(self, timeout: float) -> bool:
        """Wait until it is dead, a zombie that is; whether it is."""
        return bool(select.select([self._pidfd], [], [], timeout)[0])

    def close(self) -> None:
        for file in (self._stdin, self._pidfd):
            if file >= 0:
                os.close(file)
        self._stdin = self._pidfd = -1

    @property
    def id(self) -> str:
        """Its member id, once it is open."""
        opened = self.ledger.of("opened")
        return str(opened[0][0]) if opened else ""

    # --- what the kernel says of it --------------------------------------------------------

    def memory(self) -> int:
        """The bytes of its resident set; 0 when it is gone."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        try:
            return len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return 0


class Crew:
    """All the processes of one run."""

    def __init__(self, directory: Path, folder: Path, limits: dict[str, float]) -> None:
        self.directory = directory
        self.folder = folder
        self.limits = limits
        self.files = ChannelFiles.of(str(directory), CHANNEL)
        self.actors: list[Actor] = []
        self._numbers = itertools.count(1)
        self._questions = itertools.count(1)
        self._mother, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._nursery = subprocess.Popen(
                [sys.executable, str(_SCRIPT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=forking(),
                start_new_session=True,
            )

    def config(self, role: str, runtime: str, **changes: Any) -> Config:
        name = f"{role}-{next(self._numbers)}"
        ledger = str(self.folder / f"{name}.log")
        return Config(
            name, role, runtime, ledger, str(self.directory), limits=self.limits, **changes
        )

    def start(self, config: Config, *, stays: bool = False) -> Actor:
        """Have a process born; it is not a member yet when this returns."""
        actor = Actor(config, stays=stays)
        stdin, ours = os.pipe2(os.O_CLOEXEC)
        with actor.errors.open("wb") as errors:
            socket.send_fds(self._mother, [config.dumps().encode()], [stdin, errors.fileno()])
        os.close(stdin)
        self._mother.settimeout(20.0)
        actor.attach(int(self._mother.recv(64)), ours)
        self.actors.append(actor)
        return actor

    def fork(self, parent: Actor, config: Config) -> Actor:
        """Have a process fork a child that goes its own way, and leaves by itself."""
        child = Actor(config, stays=False, parent=parent)
        child.errors = parent.errors
        self.actors.append(child)
        parent.do(
            "fork",
            name=config.name,
            role=config.role,
            ledger=config.ledger,
            seed=config.seed,
            hosts=config.hosts,
            lasts=config.lasts,
            options=config.options,
        )
        return child

    @property
    def present(self) -> list[Actor]:
        return [actor for actor in self.actors if actor.present]

    def host(self, service: str) -> Actor | None:
        """Who hosts a service now, by its lock file."""
        path = self.files.lock(SERVICES[service])
        record = decode_host(read_file(path)[0])
        if record is None or not is_locked(path):
            return None
        return next((actor for actor in self.present if actor.pid == record.pid), None)

    def state(self, actor: Actor, timeout: float) -> tuple[list[int], int]:
        """Whom a member sees, and who is the host to it."""
        question = next(self._questions)
        actor.do("state", question=question)

        def answer() -> list[Any] | None:
            return next((e for e in actor.ledger.of("state") if e[0] == question), None)

        _, members, host, _ = wait_for(answer, f"{actor} says whom it sees", timeout)
        return members, host

    def end(self) -> None:
        """End all that still runs."""
        self._mother.close()  # the nursery ends all groups
        self._nursery.wait(20.0)
        for actor in self.actors:
            actor.close()
