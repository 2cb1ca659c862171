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
from collections.abc import Iterable, Iterator
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
    "complaints",
    "longest_pause",
]

SCRIPT = Path(__file__).with_name("member_process.py")
QUICK = {"heartbeat": 0.1, "timeout": 0.3, "lag": 0.3, "grace": 0.6}
"""Limits that let a test see a hung host soon."""


class Got(NamedTuple):
    """A message that was received."""

    publisher: str
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
        self.stopped = False
        now = time.monotonic()
        self.signal(signal.SIGCONT)
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

    def finish(self) -> int:
        """Stop publishing, and wait until all has arrived; returns how many messages it was."""
        self.do("stop_publishing")
        return int(self.expect("flushed", timeout=30.0)["flushed"])

    # --- what it has written down ----------------------------------------------------------

    def entries(self, *kinds: str) -> Iterator[list[Any]]:
        """The ledger's lines; a last one may be cut short by a kill."""
        if not self.ledger.exists():
            return
        for line in self.ledger.read_bytes().splitlines():
            if line.endswith(b"]"):
                entry = json.loads(line)
                if not kinds or entry[0] in kinds:
                    yield entry[1:] if len(kinds) == 1 else entry

    def got(self, topic: str) -> dict[str, list[Got]]:
        """What it received on a topic, by publisher."""
        received: dict[str, list[Got]] = defaultdict(list)
        for at, publisher, number, missed, published, now in self.entries("got"):
            if at == topic:
                received[publisher].append(Got(publisher, number, missed, published, now))
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


def complaints(subscriber: BusMember, publisher: BusMember, topic: str) -> list[str]:
    """Exactly once, and in order: from the first after the subscription to the last.

    Of a publisher that has died, a beginning of what it published.
    """
    got = subscriber.got(topic)[publisher.name]
    sent = publisher.published(topic)
    since = min((entry[-1] for entry in subscriber.entries("subscribed")), default=float("inf"))
    numbers = [message.number for message in got]
    problems = []
    first = next((number for number, at in sent if at > since), len(sent))
    start = numbers[0] if numbers else first
    if start > first:
        problems.append(f"begins with {start}, though {first} was published after it subscribed")
    wanted = list(range(start, start + len(numbers)))
    if numbers != wanted:
        at = next(i for i, pair in enumerate(zip(numbers, wanted, strict=True)) if len({*pair}) > 1)
        twice = sum(count - 1 for count in Counter(numbers).values())
        context = f"{numbers[max(at - 2, 0) : at + 3]} at {at}"
        problems.append(f"not one after the other: {context}; {twice} twice")
    if not publisher.dead and not subscriber.dead and start + len(numbers) != len(sent):
        problems.append(f"has {start} to {numbers[-1:]}, of {len(sent)} published")
    if numbers and numbers[-1] >= len(sent):
        problems.append(f"{numbers[-1]} was never published")
    if any(message.missed for message in got):
        problems.append(f"missed {[message.missed for message in got if message.missed]}")
    return [f"{subscriber} from {publisher}: {problem}" for problem in problems]


def all_complaints(
    subscribers: Iterable[BusMember], publishers: Iterable[BusMember], topic: str
) -> list[str]:
    publishers = list(publishers)
    return [
        complaint
        for subscriber in subscribers
        for publisher in publishers
        for complaint in complaints(subscriber, publisher, topic)
    ]


def longest_pause(
    subscribers: Iterable[BusMember], since: float, until: float, topic: str
) -> float:
    """The longest time, in seconds, that a message published then was under way."""
    return max(
        message.received - message.published
        for subscriber in subscribers
        for received in subscriber.got(topic).values()
        for message in received
        if since <= message.published < until
    )
