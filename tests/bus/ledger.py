"""Members of a channel in processes of their own, and the ledgers that decide what they have done.

Every process writes down what it publishes (before it does), what it receives, and which jobs and
requests it begins and ends. The kernel has each line before the next thing happens, so a ledger is
complete up to the moment of its process's death.
"""

from __future__ import annotations

import itertools
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from open_channel.io.directory import ChannelFiles
from open_channel.io.lockfile import is_locked, read_file
from open_channel.protocol.records import decode_host
from tests.processes import DEADLINE, Process, Processes, wait_for

__all__ = [
    "QUICK",
    "BusMember",
    "Got",
    "World",
    "all_complaints",
    "check_jobs",
    "check_requests",
    "longest_pause",
    "silences",
]

SCRIPT = Path(__file__).with_name("member_process.py")
QUICK = {"heartbeat": 0.1, "timeout": 0.3, "lag": 1.0, "grace": 3.0}
"""Limits that let a test see a hung host soon."""


class Got(NamedTuple):
    """A message that was received."""

    number: int
    missed: int
    published: float
    received: float


class BusMember(Process):
    """A process that runs ``member_process.py``."""

    _questions = itertools.count(1)

    def __init__(self, name: str, ledger: Path, config: dict[str, Any]) -> None:
        self.name = name
        self.ledger = ledger
        self.stopped = self.dead = False
        self._entries: dict[str, list[list[Any]]] = defaultdict(list)
        self._read_up_to = 0
        config = {"name": name, "ledger": str(ledger), **config}
        super().__init__([sys.executable, str(SCRIPT), json.dumps(config)])

    def __repr__(self) -> str:
        return f"{self.name} ({self.pid})"

    def do(self, command: str, **arguments: object) -> None:
        self.send(json.dumps([command, arguments]))

    def opened(self) -> BusMember:
        self.expect("opened")
        return self

    def kill(self) -> None:
        self.dead = True
        super().kill()

    def stop(self) -> None:
        """SIGSTOP, and wait until it is stopped."""
        self.stopped = True
        self.signal(signal.SIGSTOP)
        status = Path(f"/proc/{self.pid}/stat")
        wait_for(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T", "it is stopped")

    def cont(self) -> float:
        """SIGCONT; return when that was."""
        now = time.monotonic()
        if self.popen.poll() is None:
            self.signal(signal.SIGCONT)
        self.stopped = False
        return now

    def ask(self, timeout: float = DEADLINE) -> dict[str, Any]:
        """What it says of the channel now."""
        question = next(self._questions)
        self.do("state", question=question)
        state: dict[str, Any] = self.wait(
            lambda events: next((e for e in events if e.get("question") == question), None),
            "its state",
            timeout,
        )
        return state

    def moves_on(self, before: BusMember) -> None:
        """Wait until it is connected to another host."""
        wait_for(lambda: self.ask()["host"] not in {0, before.pid}, f"{self} is at another host")

    def does(self, more: int, kind: str) -> None:
        """Wait until it has written down so many more lines of a kind."""
        wanted = len(self.entries(kind)) + more
        wait_for(lambda: len(self.entries(kind)) >= wanted, f"{self}: {more} more of {kind!r}")

    def sees_leave(self, member: BusMember, timeout: float = DEADLINE) -> float:
        """Wait until it was told, as one who watches, that a member has left; return when."""
        told = self.wait(
            lambda events: [
                event
                for event in events
                if event.get("change") == "left" and event["who"] == member.pid
            ],
            f"{member} has left",
            timeout,
        )
        return float(told[0]["at"])

    def finish(self) -> int:
        """Stop publishing, and wait until all has arrived; returns how many messages it was."""
        self.do("stop_publishing")
        return int(self.expect("flushed", timeout=30.0)["flushed"])

    # --- what it has written down ----------------------------------------------------------

    def entries(self, *kinds: str) -> list[list[Any]]:
        """The ledger's lines of these kinds; a last one may be cut short by a kill."""
        if self.ledger.exists():
            with self.ledger.open("rb") as file:
                file.seek(self._read_up_to)
                lines, cut, _ = file.read().rpartition(b"\n")
            self._read_up_to += len(lines) + len(cut)
            for line in lines.splitlines():
                kind, *entry = json.loads(line)
                self._entries[kind].append(entry)
        return [entry for kind in kinds for entry in self._entries[kind]]

    def got(self, topic: str) -> dict[str, list[Got]]:
        """What it received on a topic, by publisher."""
        received: dict[str, list[Got]] = defaultdict(list)
        for at, publisher, *message in self.entries("got"):
            if at == topic:
                received[publisher].append(Got(*message))
        return received

    def published(self, topic: str) -> list[tuple[int, float]]:
        """The numbers it published, and when."""
        return [(number, now) for at, number, now in self.entries("published") if at == topic]


class World:
    """The processes of one test."""

    def __init__(self, directory: Path, folder: Path, processes: Processes) -> None:
        self.directory = directory
        self._folder = folder
        self._processes = processes
        self.files = ChannelFiles.of(str(directory), "shop")
        self.members: list[BusMember] = []

    def start(self, name: str, **config: Any) -> BusMember:
        """Start one more; it may not be open yet when this returns."""
        member = BusMember(name, self._folder / name, config)
        self._processes.adopt(member)
        self.members.append(member)
        return member

    def open(self, *names: str, **config: Any) -> list[BusMember]:
        """Start several at once, and wait until they are members."""
        return [member.opened() for member in [self.start(name, **config) for name in names]]

    @property
    def living(self) -> list[BusMember]:
        return [member for member in self.members if not member.dead]

    def host(self) -> BusMember:
        """Who hosts the broker now, by the lock file."""

        def find() -> BusMember | None:
            path = self.files.lock("b")
            record = decode_host(read_file(path)[0])
            if record is None or not is_locked(path):
                return None
            return next((m for m in self.members if m.pid == record.pid and not m.dead), None)

        return wait_for(find, "a host")  # type: ignore[no-any-return]

    def settle(self, timeout: float = DEADLINE) -> BusMember:
        """Wait until the living all see just each other, with one host; return that."""
        living = [member for member in self.living if not member.stopped]
        pids = sorted(member.pid for member in living)
        seen: list[Any] = []

        def agree() -> bool:
            host = self.host().pid
            seen[:] = [(m, state["members"], state["host"]) for m in living for state in [m.ask()]]
            return all(sorted(members) == pids and at == host for _, members, at in seen)

        try:
            wait_for(agree, "all see each other, and one host", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}: {pids}, but {seen}") from None
        return self.host()


# --- what must hold -------------------------------------------------------------------------------


def all_complaints(
    subscribers: Iterable[BusMember], publishers: Iterable[BusMember], topic: str
) -> list[str]:
    """Exactly once, and in order: from the first after the subscription to the last.

    Of a publisher that has died, a beginning of what it published.
    """
    publishers = list(publishers)
    problems = []
    for subscriber in subscribers:
        got = subscriber.got(topic)
        live = min((entry[-1] for entry in subscriber.entries("subscribed")), default=float("inf"))
        for publisher in publishers:
            sent = publisher.published(topic)
            first = next((number for number, at in sent if at > live), len(sent))
            exact = not publisher.dead and not subscriber.dead
            problem = _complaint(got[publisher.name], first, len(sent), exact)
            problems += [f"{subscriber} from {publisher}: {problem}"] if problem else []
    return problems


def _complaint(got: list[Got], first: int, end: int, exact: bool) -> str:
    numbers = [message.number for message in got]
    start = numbers[0] if numbers else first
    wanted = list(range(start, start + len(numbers)))
    if start > first:
        return f"begins with {start}, though {first} was published after it subscribed"
    if numbers != wanted:
        at = next(i for i, pair in enumerate(zip(numbers, wanted, strict=True)) if len({*pair}) > 1)
        twice = len(numbers) - len(set(numbers))
        return f"{numbers[max(at - 2, 0) : at + 3]} at {at}; {twice} twice"
    if start + len(numbers) > end:
        return f"{numbers[-1]} was never published"
    if exact and start + len(numbers) != end:
        return f"has {len(numbers)} from {start} on, of {end}"
    missed = [message for message in got if message.missed]
    return f"missed {missed}" if missed else ""


def silences(subscriber: BusMember, topic: str) -> list[str]:
    """What is wrong with what a member got that was out of touch: doubles, and losses not told."""
    problems = []
    last: dict[str, int] = {}
    told: dict[str, bool] = {}
    for at, publisher, number, missed, _, _ in subscriber.entries("got"):
        if at != topic:
            continue
        if missed:
            told = dict.fromkeys(last, True)
        before = last.get(publisher, number - 1)
        if number <= before:
            problems.append(f"{subscriber}: {number} of {publisher} after {before}")
        elif number > before + 1 and not told.pop(publisher, False):
            problems.append(f"{subscriber}: {before + 1} of {publisher} is missing, silently")
        last[publisher] = number
        told.pop(publisher, None)
    return problems


def check_jobs(world: World, publishers: Iterable[BusMember]) -> tuple[int, int]:
    """Every job done, and by one of the living; returns how many, and how many were begun again."""
    done: Counter[tuple[str, int]] = Counter()
    by_the_dead = set()
    begun: Counter[tuple[str, int]] = Counter()
    for member in world.members:
        begun.update((who, number) for _, who, number, *_ in member.entries("began"))
        jobs = [(who, number) for _, who, number, _ in member.entries("did")]
        if member.dead:
            by_the_dead.update(jobs)
        else:
            done.update(jobs)
    wanted = {
        (publisher.name, number)
        for publisher in publishers
        for number, _ in publisher.published("jobs")
    }
    undone = wanted - done.keys() - by_the_dead
    assert not undone, f"{len(undone)} of {len(wanted)} jobs nobody did: {sorted(undone)[:10]}"
    twice = [job for job, times in done.items() if times > 1]
    assert not twice, f"{len(twice)} of {len(wanted)} jobs twice: {sorted(twice)[:10]}"
    return len(wanted), sum(times - 1 for times in begun.values())


def check_requests(requesters: Iterable[BusMember]) -> tuple[Counter[str], float]:
    """What the requests came to, and how long the longest took; fails when one did not end."""
    counted: Counter[str] = Counter()
    longest = 0.0
    for requester in requesters:
        asked = [number for _, number, _ in requester.entries("request")]
        ended = [number for _, number, *_ in requester.entries("outcome")]
        assert asked == ended == list(range(len(asked)))
        counted.update(outcome for _, _, outcome, *_ in requester.entries("outcome"))
        longest = max(longest, *(taken for *_, taken, _ in requester.entries("outcome")))
    return counted, longest


def longest_pause(
    subscribers: Iterable[BusMember], since: float, until: float, topic: str
) -> float:
    """The longest time, in seconds, that a message published then was under way."""
    return max(
        (
            message.received - message.published
            for subscriber in subscribers
            for messages in subscriber.got(topic).values()
            for message in messages
            if since <= message.published < until
        ),
        default=0.0,
    )
