"""The supervisor of the demonstration: who is killed and when, and what came of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from open_channel.cli.demo.crew import Child, Crew, DemoFailed
from open_channel.cli.demo.view import view_of
from open_channel.cli.demo.worker import FLUSH, START
from open_channel.io.directory import ChannelFiles, resolve, secure
from open_channel.io.lockfile import read_file
from open_channel.protocol.records import HostRecord, decode_host

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from open_channel.cli.demo.view import View

__all__ = ["Demo", "Settings", "Takeover", "Totals", "run_demo"]

_SERVICE = "l"  # the letter of the listener service
_TAKEOVER = 15.0  # seconds after which a takeover has failed
_INTERRUPTED = 130  # the exit code after Ctrl-C
_TURN = 0.1  # seconds between two looks at the clock


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asked for; times in seconds."""

    workers: int
    seconds: float
    every: float
    directory: Path | None = None

    @property
    def writers(self) -> int:
        """How many write; the others, two at least, stand for host."""
        return self.workers // 2 if self.workers > 3 else 1


@dataclass(slots=True)
class Takeover:
    """One kill, and what followed."""

    after: float
    """Seconds from the beginning of the demonstration."""
    killed: int
    """The process id of the host that was killed."""
    at: int
    """When, in ns of the monotonic clock."""
    waiting: set[int]
    """The writers that have not heard from the next host."""
    host: int = 0
    """The process id of the next host; 0 until it is heard."""
    heard: int = 0
    """When the last writer had its first echo from the next host, in ns."""

    @property
    def pause(self) -> float | None:
        """Seconds from the kill until every writer had an echo again; None until then."""
        return None if self.waiting else (self.heard - self.at) / 1e9


@dataclass(slots=True)
class Totals:
    """What the writers have counted, together."""

    sent: int = 0
    received: int = 0
    redelivered: int = 0
    unmarked: int = 0
    misordered: int = 0

    @property
    def lost(self) -> int:
        """What has not come back; of meaning at the end only."""
        return self.sent - self.received

    @property
    def clean(self) -> bool:
        """Whether all that was promised was kept."""
        return not (self.lost or self.unmarked or self.misordered) and self.received > 0


@dataclass(slots=True)
class Demo:
    """What is known at a moment; the views show it."""

    settings: Settings
    directory: str
    begun: float = 0.0
    """When the writers had their first echoes; in seconds of the monotonic clock."""
    host: HostRecord | None = None
    takeovers: list[Takeover] = field(default_factory=list[Takeover])
    counts: dict[int, Totals] = field(default_factory=dict[int, Totals])
    candidates: set[int] = field(default_factory=set[int])
    """Those that are connected, and so can take over."""
    done: set[int] = field(default_factory=set[int])
    """The writers that have reported for the last time."""
    echoed: set[int] = field(default_factory=set[int])
    """The writers that have had an echo at all."""

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning; 0 before it."""
        return time.monotonic() - self.begun if self.begun else 0.0

    @property
    def totals(self) -> Totals:
        """The sums over all writers."""
        fields = ("sent", "received", "redelivered", "unmarked", "misordered")
        counts = self.counts.values()
        return Totals(*(sum(getattr(count, name) for count in counts) for name in fields))

    @property
    def pauses(self) -> list[float]:
        """The pauses of the takeovers that are over, in seconds."""
        return [takeover.pause for takeover in self.takeovers if takeover.pause is not None]

    @property
    def median_pause(self) -> float:
        """In seconds; 0 without a takeover."""
        return statistics.median(self.pauses or [0.0])

    @property
    def settled(self) -> bool:
        """Whether every writer has heard from the present host."""
        return not self.takeovers or not self.takeovers[-1].waiting


class _Supervisor:
    def __init__(
        self, demo: Demo, crew: Crew, view: View, files: ChannelFiles, signals: _Signals
    ) -> None:
        self._demo = demo
        self._crew = crew
        self._view = view
        self._signals = signals
        self._lock = files.lock(_SERVICE)
        self._writers: list[Child] = []

    def start(self) -> None:
        """Start all, and wait until every writer has its first echo."""
        settings = self._demo.settings
        for _ in range(settings.workers - settings.writers):
            self._crew.spawn("candidate")
        self._writers = [self._crew.spawn("writer") for _ in range(settings.writers)]
        everybody = {writer.pid for writer in self._writers}
        self._until(
            lambda: self._demo.echoed == everybody or self._signals.interrupted,
            START,
            "not all processes connected",
        )
        if self._signals.interrupted:
            raise KeyboardInterrupt
        self._demo.begun = time.monotonic()

    def disturb(self) -> None:
        """Kill the host at every interval, until the time is over or Ctrl-C is pressed."""
        demo = self._demo
        end = demo.begun + demo.settings.seconds
        due = demo.begun + demo.settings.every
        while (now := time.monotonic()) < end and not self._signals.interrupted:
            if now >= due and self._kill():
                due = max(due + demo.settings.every, now)
            elif now >= due + _TAKEOVER:
                raise DemoFailed(reason=f"nobody took over within {_TAKEOVER} s")
            self._turn(min(end, due) - now if now < due else _TURN / 10)

    def finish(self) -> None:
        """Let the writers stop, and wait until each has what will come back."""
        for writer in self._writers:
            writer.stop()
        everybody = {writer.pid for writer in self._writers}
        self._until(lambda: self._demo.done == everybody, FLUSH + 10, "the writers did not finish")

    def _kill(self) -> bool:
        """Kill the host and start a process in its place, if another can take over now."""
        demo = self._demo
        host = demo.host = self._find_host()
        victim = self._crew.children.get(host.pid) if host else None
        if victim is None or victim.killed or not demo.settled:
            return False
        if not demo.candidates - {victim.pid}:
            return False
        demo.candidates.discard(victim.pid)
        waiting = {writer.pid for writer in self._writers}
        after = demo.elapsed
        demo.takeovers.append(Takeover(after, victim.pid, victim.kill(), waiting))
        self._crew.spawn("candidate")
        return True

    def _find_host(self) -> HostRecord | None:
        return decode_host(read_file(self._lock)[0])

    def _until(self, reached: Callable[[], bool], timeout: float, failure: str) -> None:
        deadline = time.monotonic() + timeout
        while not reached():
            if time.monotonic() > deadline:
                raise DemoFailed(reason=f"{failure} within {timeout:g} s")
            self._turn(_TURN)

    def _turn(self, timeout: float) -> None:
        for child, message in self._crew.hear(min(timeout, _TURN)):
            self._take(child, message)
        self._demo.host = self._find_host() or self._demo.host
        self._view.show(self._demo)

    def _take(self, child: Child, message: dict[str, int | str]) -> None:
        demo = self._demo
        match message.pop("event"):
            case "ready" if child.role == "candidate" and not child.killed:
                demo.candidates.add(child.pid)
            case "host":
                demo.echoed.add(child.pid)
                self._take_host(child.pid, int(message["pid"]), int(message["at"]))
            case "count" | "done" as event:
                demo.counts[child.pid] = Totals(**{k: int(v) for k, v in message.items()})
                if event == "done":
                    demo.done.add(child.pid)
            case _:
                pass

    def _take_host(self, writer: int, host: int, at: int) -> None:
        if not self._demo.takeovers:
            return
        takeover = self._demo.takeovers[-1]
        if host != takeover.killed and at > takeover.at and writer in takeover.waiting:
            takeover.waiting.discard(writer)
            takeover.host = host
            takeover.heard = max(takeover.heard, at)


def run_demo(settings: Settings, *, plain: bool) -> int:
    """Run the demonstration and show it; returns the exit code.

    That is 0 when nothing was lost and all came back in order, 1 when not, and 130 when Ctrl-C has
    ended it early. Raises DemoFailed when it could not go on.
    """
    name = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    with _signals() as signals, _place(settings, name) as files:
        demo = Demo(settings, files.directory)
        with Crew(name, files.directory) as crew, view_of(demo, plain=plain) as view:
            supervisor = _Supervisor(demo, crew, view, files, signals)
            try:
                supervisor.start()
                supervisor.disturb()
                supervisor.finish()
            except DemoFailed as error:
                words = crew.last_words()
                raise DemoFailed(reason=f"{error}\n{words}" if words else str(error)) from None
            except KeyboardInterrupt:
                return _INTERRUPTED
            view.close(demo, crew.last_words())
        if signals.interrupted:
            return _INTERRUPTED
        return 0 if demo.totals.clean else 1


@contextlib.contextmanager
def _place(settings: Settings, name: str) -> Generator[ChannelFiles]:
    """The demonstration's files, removed at the end: a directory of its own, or its own names."""
    if settings.directory is not None:
        files = ChannelFiles.of(resolve(settings.directory).path, name)
        secure(files.directory)
        try:
            yield files
        finally:
            for file in os.listdir(files.directory):
                if file.startswith(f"{files.key}."):
                    os.unlink(files.path(file))
        return
    # Not where $TMPDIR says: a socket's path has room for some 60 bytes of it.
    directory = tempfile.mkdtemp(prefix="open-channel-", dir="/tmp")
    try:
        yield ChannelFiles.of(directory, name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Signals:
    """Ctrl-C ends the demonstration early, with its table; a second one, SIGTERM and SIGHUP at
    once. All of them leave no process and no file behind.
    """

    def __init__(self) -> None:
        self.interrupted = False

    def interrupt(self, number: int, frame: object) -> None:
        # Not raised here: between a message and its reader it would take the message away.
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def end(self, number: int, frame: object) -> None:
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals() -> Generator[_Signals]:
    signals = _Signals()
    handlers = {
        signal.SIGINT: signals.interrupt,
        signal.SIGTERM: signals.end,
        signal.SIGHUP: signals.end,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
