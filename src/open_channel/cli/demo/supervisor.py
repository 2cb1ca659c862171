"""The supervisor of the demonstration: who is killed, and when."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from open_channel.cli.demo.crew import DemoFailed
from open_channel.cli.demo.part import FLUSH, START
from open_channel.cli.demo.play import CANDIDATE
from open_channel.cli.demo.state import Takeover
from open_channel.io.lockfile import read_file
from open_channel.protocol.records import HostRecord, decode_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from open_channel.cli.demo.crew import Child, Crew
    from open_channel.cli.demo.state import Demo
    from open_channel.cli.demo.view import View
    from open_channel.io.directory import ChannelFiles

__all__ = ["Supervisor"]

_TAKEOVER = 15.0  # seconds after which a takeover has failed
_TURN = 0.1  # seconds between two looks at the clock


class Supervisor:
    """Runs a play: starts its processes, kills hosts, and lets the others finish."""

    def __init__(
        self,
        demo: Demo,
        crew: Crew,
        view: View,
        files: ChannelFiles,
        interrupted: Callable[[], bool],
    ) -> None:
        self._demo = demo
        self._play = demo.play
        self._crew = crew
        self._view = view
        self._interrupted = interrupted
        self._lock = files.lock(demo.play.service)

    def start(self) -> None:
        """Start all, and wait until the whole audience has heard from the host.

        Raises KeyboardInterrupt after Ctrl-C.
        """
        demo = self._demo
        for stage in self._play.stages:
            new = {
                self._crew.spawn(role).pid for role, number in stage.items() for _ in range(number)
            }
            self._until_started(partial(demo.ready.issuperset, new))
        audience = self._pids(self._play.audience)
        self._until_started(partial(demo.heard.issuperset, audience))
        demo.begun = time.monotonic()

    def disturb(self) -> None:
        """Kill the host at every interval, until the time is over or Ctrl-C is pressed."""
        demo = self._demo
        end = demo.begun + demo.settings.seconds
        due = demo.begun + demo.settings.every
        while (now := time.monotonic()) < end and not self._interrupted():
            if now >= due and self._kill():
                due = max(due + demo.settings.every, now)
            elif now >= due + _TAKEOVER:
                raise DemoFailed(reason=f"nobody took over within {_TAKEOVER} s")
            self._turn(min(end, due) - now if now < due else _TURN / 10)

    def finish(self) -> None:
        """Let the processes finish, and wait until each has what is still to come."""
        demo = self._demo
        for role in self._play.leaving:
            pids = self._pids(role)
            for pid in pids:
                self._crew.children[pid].stop(self._play.sent)
            failure = f"the {role}s did not finish"
            self._until(partial(demo.done.issuperset, pids), FLUSH + 10, failure)

    def _pids(self, role: str) -> set[int]:
        return {child.pid for child in self._crew.children.values() if child.role == role}

    def _kill(self) -> bool:
        """Kill the host and start a process in its place, if another can take over now."""
        demo = self._demo
        host = demo.host = self._find_host()
        victim = self._crew.children.get(host.pid) if host else None
        if victim is None or victim.killed or not demo.settled:
            return False
        if not demo.ready & (self._pids(CANDIDATE) - {victim.pid}):
            return False
        waiting = self._pids(self._play.audience)
        after = demo.elapsed
        demo.takeovers.append(Takeover(after, victim.pid, victim.kill(), waiting))
        self._crew.spawn(CANDIDATE)
        return True

    def _find_host(self) -> HostRecord | None:
        return decode_host(read_file(self._lock)[0])

    def _host_pid(self) -> int:
        host = self._find_host()
        return host.pid if host else 0

    def _until_started(self, reached: Callable[[], bool]) -> None:
        self._until(lambda: reached() or self._interrupted(), START, "not all processes connected")
        if self._interrupted():
            raise KeyboardInterrupt

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

    def _take(self, child: Child, message: dict[str, Any]) -> None:
        demo = self._demo
        match message.pop("event"):
            case "ready" if not child.killed:
                demo.ready.add(child.pid)
            case "host":
                demo.heard.add(child.pid)
                self._take_host(child.pid, message["pid"], message["at"])
            case "count" | "done" as event:
                self._play.counts[child.pid] = message
                if event == "done":
                    demo.done.add(child.pid)
            case _:
                pass

    def _take_host(self, pid: int, host: int, at: int) -> None:
        if not self._demo.takeovers:
            return
        takeover = self._demo.takeovers[-1]
        if host != takeover.killed and at > takeover.at and pid in takeover.waiting:
            takeover.waiting.discard(pid)
            takeover.host = host or self._host_pid() or takeover.host
            takeover.heard = max(takeover.heard, at)
