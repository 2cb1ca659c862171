"""Idle: what a connected member costs while nobody says anything.

For each kind of loop one process hosts and another is a member; a bare asyncio client on an idle
connection is the baseline. All of them are watched at once for some seconds. With strace (run as
root, or as the same user where ptrace is allowed) each system call of every thread is counted, and
calls less than 50 ms apart make one *wake-up*. Without, the kernel's voluntary context switches of
all threads stand in.

The promise is "no system call for seconds at a time but the heartbeat". The heartbeat itself wakes
a member once a second, since the host sends it. So a wake-up that begins with a read is taken for
one that the other side has caused, and the goal counts the others, a member's *own*: at most one in
two seconds on average. What happens less than 50 ms after a heartbeat goes with it. Without strace
there is no telling them apart, and one wake-up for each heartbeat that was due is taken off.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import echo
from harness import (
    DEADLINE,
    BenchmarkError,
    Child,
    Crew,
    Goal,
    Report,
    Settings,
    Table,
    say,
    until_dismissed,
)

WAKE_UP_GOAL = 0.5  # a second
HEARTBEAT = 1.0  # seconds: the default of Limits
READS = frozenset({"read", "recvfrom", "recvmsg"})
WAKE_UP_GAP = 0.05  # seconds


# --- roles ----------------------------------------------------------------------------------------


async def bare_client(path: str) -> None:
    await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, path)
    say(ready=True)
    await until_dismissed()


async def our_member(name: str) -> None:
    from open_channel import open_channel

    async def listener(socket: Any) -> None:
        socket.write(str(os.getpid()).encode())
        async for message in socket:
            socket.write(message)

    socket = open_channel(name, listener).connect(timeout=10.0)
    say(host=int(await socket.read()))
    await until_dismissed()


# --- watching -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process did: its wake-ups, its longest quiet time in seconds, its calls by name."""

    wake_ups: int
    own: int
    """Those of them that nobody else had caused."""
    longest_quiet: float
    calls: Counter[str]


class Strace:
    """System calls of all threads of a process, by an attached strace."""

    unit = "system calls"
    # Not "<... resumed>" lines: each call counts once.
    _line = re.compile(r"^(?:\d+ +)?(\d+\.\d+) (\w+)\(")

    def __init__(self, pid: int, directory: Path) -> None:
        self._trace = directory / f"strace-{pid}"
        self._process = subprocess.Popen(
            ["strace", "-f", "-ttt", "-o", str(self._trace), "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            self._wait_for_attachment()
        except BaseException:
            self.end()
            raise
        # strace's own clock. The call that the attachment interrupted is made again before this.
        self._begun = time.time() + WAKE_UP_GAP

    def _wait_for_attachment(self) -> None:
        assert self._process.stderr is not None
        readable, _, _ = select.select([self._process.stderr], [], [], DEADLINE)
        words = os.read(self._process.stderr.fileno(), 4096) if readable else b"silence"
        if b"attached" not in words:
            raise BenchmarkError(f"strace did not attach: {words.decode(errors='replace')}")

    def stop(self) -> Activity:
        ended = time.time()
        self.end()
        matches = map(self._line.match, self._trace.read_text().splitlines())
        found = [(float(m[1]), m[2]) for m in matches if m]
        found = [(at, call) for at, call in found if self._begun <= at <= ended]
        times = [self._begun, *(at for at, _ in found), ended]
        gaps = [after - before for before, after in pairwise(times)]
        first_calls = [
            call for gap, (_, call) in zip(gaps, found, strict=False) if gap > WAKE_UP_GAP
        ]
        own = sum(call not in READS for call in first_calls)
        return Activity(len(first_calls), own, max(gaps), Counter(call for _, call in found))

    def end(self) -> None:
        """Detach; the process watched goes on. Harmless when repeated."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


class ContextSwitches:
    """Voluntary context switches of all threads of a process: one each time that one slept."""

    unit = "voluntary context switches"

    def __init__(self, pid: int, _directory: Path) -> None:
        self._pid = pid
        self._begun, self._before = time.monotonic(), self._count()

    def _count(self) -> int:
        statuses = (path.read_text() for path in Path(f"/proc/{self._pid}/task").glob("*/status"))
        return sum(int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0]) for text in statuses)

    def end(self) -> None:
        pass

    def stop(self) -> Activity:
        switches = self._count() - self._before
        seconds = time.monotonic() - self._begun
        own = max(0, switches - round(seconds / HEARTBEAT))
        return Activity(switches, own, seconds / (switches + 1), Counter({"switches": switches}))


# --- the run --------------------------------------------------------------------------------------


def start_idlers(crew: Crew, settings: Settings) -> dict[tuple[str, str], Child]:
    path = str(crew.directory / "bare")
    crew.spawn(echo.bare_server, path=path).hear()
    bare = crew.spawn(bare_client, path=path)
    bare.hear()
    idlers = {("asyncio", "bare client"): bare}
    for loop in settings.loops if settings.ours else ():
        name = f"idle-{loop}"
        host = crew.spawn(our_member, loop=loop, name=name)
        host.hear()
        member = crew.spawn(our_member, loop=loop, name=name)
        if member.hear()["host"] != host.pid:
            raise BenchmarkError("the member hosts although another process did")
        idlers[loop, "member"] = member
        idlers[loop, "host"] = host
    return idlers


def watch(idlers: Sequence[Child], crew: Crew, seconds: float) -> tuple[str, list[Activity]]:
    kind = Strace if shutil.which("strace") else ContextSwitches
    with ExitStack() as stack:
        watches: list[Strace | ContextSwitches] = []
        for child in idlers:
            watches.append(kind(child.pid, crew.directory))
            stack.callback(watches[-1].end)
        time.sleep(seconds)  # the measurement itself: nothing is to happen
        return kind.unit, [each.stop() for each in watches]


def run(settings: Settings) -> Report:
    seconds = 5.0 if settings.quick else 10.0
    report = Report("idle")
    with Crew() as crew:
        idlers = start_idlers(crew, settings)
        unit, activities = watch(list(idlers.values()), crew, seconds)
    header = ("loop", "process", "calls/s", "wake-ups/s", "own/s", "longest quiet s", "which")
    table = Table(f"idle for {seconds:g} s, {unit}", header)
    report.tables.append(table)
    for (loop, role), activity in zip(idlers, activities, strict=True):
        which = (
            ", ".join(f"{call} {count}" for call, count in activity.calls.most_common()) or "none"
        )
        rate, wakes = activity.calls.total() / seconds, activity.wake_ups / seconds
        own = activity.own / seconds
        table.rows.append((loop, role, rate, wakes, own, activity.longest_quiet, which))
        if role == "member":
            report.goals.append(
                Goal(f"own wake-ups a second of an idle member, {loop}", WAKE_UP_GOAL, own)
            )
    return report
