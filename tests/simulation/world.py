"""The world: processes, the lock, connections and time; and every step that can be taken in it.

A step is a tuple of a name and numbers, so that a schedule is plain data: it can be written down,
taken again, and made shorter. A step that makes no sense (any more) does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from open_channel.bus.host import PATIENCE
from open_channel.protocol.limits import Limits
from tests.simulation.app import Number, Sub
from tests.simulation.hosting import Hosting
from tests.simulation.invariants import Checks
from tests.simulation.process import Process
from tests.simulation.sockets import Connection
from tests.simulation.trace import describe
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PATTERNS", "TOPICS", "Settings", "Step", "World"]

Step = tuple[Any, ...]

TOPICS = ("a.x", "a.y", "b.x")
PATTERNS = ("a.x", "a.*", ">", "b.x")
GROUPS = ("g", "h")
_BODIES = tuple(bytes((number,)) for number in range(256))


class Settings(NamedTuple):
    """What one world is like."""

    members: int = 3
    room: int = 64
    """How many frames a socket holds."""
    lag: float = 1.0
    grace: float = 6.0
    timeout: float = 3.0
    queue: int = 64 * 1024
    feed: int = 1024 * 1024
    patience: int = PATIENCE
    """Records that go unacknowledged: few, where a session takes few bytes at a time."""
    window: int = 64 * 1024
    size: int = 1
    """Bytes of a message."""


class World:
    """All there is."""

    def __init__(self, settings: Settings, *, traced: bool = False) -> None:
        self.settings = settings
        self.limits = Limits(
            lag=settings.lag,
            grace=settings.grace,
            timeout=settings.timeout,
            queue=settings.queue,
            window=settings.window,
            outbox=2**62,
            max_message=256 * 1024,
        )
        self.room = settings.room
        self.now = 100.0
        self.traced = traced
        self.lines: list[str] = []
        self.processes: list[Process] = []
        self.by_id: dict[bytes, Process] = {}
        self.holder: Hosting | None = None
        """Whose lock is on the file that the path names."""
        self.hostings: list[Hosting] = []
        self.freed = False
        """Whether anybody's lock on his presence file was ever let go."""
        self.any_loose = False
        """Whether anybody may be loose."""
        self.epoch = 0
        self.lineage = 0
        """The first hosting of this lock file."""
        self.wiped = False
        """Whether the directory was ever deleted."""
        self.strangers: dict[Number, set[bytes]] = {}
        """{message: of whom a host that routed it did not know}, from then on."""
        self.steps = 0
        self.checks = Checks(self)
        self._topics = {topic: topic.encode() for topic in TOPICS}
        for _ in range(settings.members):
            self.do_join()

    # --- what there is ---------------------------------------------------------------------

    def subs(self) -> Iterator[Sub]:
        for process in self.processes:
            yield from process.subs

    def connections_to(self, hosting: Hosting) -> list[Connection]:
        return [
            connection
            for process in self.processes
            for connection in process.connections
            if connection.hosting is hosting
        ]

    def topic(self, topic: str) -> bytes:
        return self._topics[topic]

    def body(self, number: int) -> bytes:
        """What a publisher says in its message of that number, and gets as reply."""
        return _BODIES[number % len(_BODIES)] * self.settings.size

    def is_present(self, member: bytes) -> bool:
        return self.by_id[member].present

    def name_of(self, member: bytes) -> str:
        return self.by_id[member].name if member in self.by_id else "?"

    @property
    def takeovers(self) -> int:
        return max(0, len(self.hostings) - 1)

    def elect(self, process: Process) -> None:
        """The lock is free, or a new one is put over it."""
        for hosting in self.hostings:
            if hosting.hosting:
                self.checks.replaced(hosting)
        if not self.epoch:
            self.lineage = len(self.hostings) + 1
        self.epoch += 1
        hosting = Hosting(self, process, len(self.hostings) + 1, self.epoch)
        self.hostings.append(hosting)
        self.holder = process.hosting = hosting
        self.note(f"{process.name} is elected: {hosting.name}")

    def note_released(self, hosting: Hosting) -> None:
        """Who is out of touch, as far as this host knows?"""
        for one in hosting.broker.seats.values():
            process = self.by_id[one.member]
            if one.released:
                if not process.loose:
                    self.note(f"{hosting.name}: {process.name} is out of touch")
                process.loose = process.was_loose = self.any_loose = True
                self.checks.work.loosen(process)
            elif process.loose and hosting is self.holder and not one.owed and one.outbox:
                connection = process.connection
                if connection is not None and not connection.down.kernel:
                    process.loose = False
                    self.checks.work.in_touch(process)

    # --- the trace -------------------------------------------------------------------------

    def note(self, line: str) -> None:
        if self.traced:
            self.lines.append(f"    {line}")

    def heard(self, hosting: Hosting, member: bytes, record: bytes) -> None:
        what = describe(record, self.name_of)
        self.note(f"{hosting.name} <- {self.name_of(member)}: {what}")

    def told(self, process: Process, record: bytes) -> None:
        self.note(f"{process.name} <- host: {describe(record, self.name_of)}")

    # --- steps -----------------------------------------------------------------------------

    def take(self, step: Step) -> bool:
        """Take one step; returns whether it did anything.

        Raises Violation when something does not hold, or when the code raises anything.
        """
        self.steps += 1
        if self.traced:
            self.lines.append(" ".join(map(str, step)))
        try:
            return _STEPS[step[0]](self, *step[1:])
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"it raises {type(error).__name__}: {error}") from error

    def _running(self, index: int) -> Process | None:
        if index < len(self.processes) and self.processes[index].runs:
            return self.processes[index]
        return None

    def do_join(self) -> bool:
        process = Process(self, len(self.processes))
        process.woke_at = self.now
        self.processes.append(process)
        self.by_id[process.id] = process
        return True

    def do_time(self, seconds: float) -> bool:
        self.now += seconds
        return True

    # The user's:

    def do_publish(self, index: int, topic: int, count: int = 1) -> bool:
        process = self._running(index)
        if process is not None:
            process.publish(TOPICS[topic], count)
        return process is not None

    def do_mix(self, index: int, topic: int, count: int) -> bool:
        """Publish to all topics in turn, beginning with one of them."""
        process = self._running(index)
        if process is not None:
            for number in range(topic, topic + count):
                process.publish(TOPICS[number % len(TOPICS)], 1)
        return process is not None

    def do_subscribe(self, index: int, pattern: int, kind: int, prefetch: int = 1) -> bool:
        """``kind`` 0: plain, 1: blocking, 2: a responder, from 3 on: a group."""
        process = self._running(index)
        if process is None:
            return False
        process.subscribe(
            PATTERNS[pattern],
            blocks=kind == 1,
            serves=kind == 2,
            group=GROUPS[kind - 3] if kind > 2 else "",
            prefetch=prefetch,
        )
        return True

    def _sub(self, index: int, which: int) -> Sub | None:
        process = self._running(index)
        if process is None or which >= len(process.subs) or process.subs[which].ended:
            return None
        process.scheduled = True
        return process.subs[which]

    def do_unsubscribe(self, index: int, which: int, keeps: int = 0) -> bool:
        sub = self._sub(index, which)
        if sub is not None:
            sub.end(keeps=bool(keeps))
        return sub is not None

    def do_took(self, index: int, which: int) -> bool:
        sub = self._sub(index, which)
        if sub is None or not sub.untaken:
            return False
        sub.take()
        return True

    def do_finish(self, index: int, which: int, job: int, done: int) -> bool:
        """A job is done (or rejected), or a request answered; ``job`` counts those in hand."""
        process = self._running(index)
        if process is None or which >= len(process.subs):
            return False
        sub = process.subs[which]
        if job >= len(sub.hands):
            return False
        process.scheduled = True
        number = list(sub.hands)[job]
        if sub.serves:
            sub.answer(number)
        else:
            sub.finish(number, done=bool(done))
        return True

    def do_confirm(self, index: int) -> bool:
        process = self._running(index)
        if process is not None:
            process.confirm()
        return process is not None

    def do_request(self, index: int, topic: int, to: int, everyone: int = 0) -> bool:
        """``to`` is a member that it knows of, or below 0."""
        process = self._running(index)
        if process is None or to >= len(self.processes):
            return False
        if to >= 0 and self.processes[to].id not in process.core.roster:
            return False
        if to >= 0:
            process.request(TOPICS[topic], self.processes[to].id)
        else:
            process.request(TOPICS[topic], everyone=bool(everyone))
        return True

    def do_cancel(self, index: int, which: int) -> bool:
        process = self._running(index)
        if process is None or which >= len(process.requests):
            return False
        process.cancel(process.requests[which])
        return True

    # The member's:

    def do_flush(self, index: int) -> bool:
        process = self._running(index)
        if process is not None:
            process.flush()
        return process is not None

    def do_settle(self, index: int) -> bool:
        process = self._running(index)
        if process is None or process.debts_due is None or process.debts_due > self.now:
            return False
        process.settle_debts()
        return True

    def do_advance(self, index: int) -> bool:
        process = self._running(index)
        if process is None or not self.can_advance(process):
            return False
        process.advance()
        return True

    def can_advance(self, process: Process) -> bool:
        """Whether it can stand for election, or reach whoever holds the lock."""
        if process.connection is not None:
            return False
        if self.holder is None:
            return not process.hosts
        holder = self.holder.process
        return holder.alive or holder.leaving  # else: its locks are about to be free

    def do_watch(self, index: int) -> bool:
        process = self._running(index)
        if process is None or not self.silent(process):
            return False
        process.watch()
        return True

    def silent(self, process: Process) -> bool:
        """Whether its host has given no sign of life for too long."""
        connection = process.connection
        if connection is None or connection.down.readable:
            return False
        stopped = connection.hosting.process.paused_at
        timeout = self.limits.timeout
        return (
            stopped is not None
            and self.now - stopped > timeout
            and self.now - process.woke_at > timeout
        )

    def do_read(self, index: int, count: int) -> bool:
        """The member reads."""
        process = self._running(index)
        if process is None:
            return False
        connection = process.connection
        if connection is None or not connection.down.readable:
            return False
        process.read(count)
        return True

    def do_writable(self, index: int) -> bool:
        process = self._running(index)
        if process is None:
            return False
        connection = process.connection
        if connection is None or not connection.up.movable:
            return False
        process.writable()
        return True

    # The host's:

    def _connection(self, index: int, age: int) -> Connection | None:
        """A member's connection, the latest or an earlier one, whose host runs."""
        if index >= len(self.processes) or age >= len(self.processes[index].connections):
            return None
        connection = self.processes[index].connections[-1 - age]
        runs = connection.hosting.process.awake and connection.hosting.hosting
        return connection if runs else None

    def do_hear(self, index: int, age: int, count: int) -> bool:
        """The host reads one of a member's connections."""
        connection = self._connection(index, age)
        if connection is None or not connection.up.readable:
            return False
        connection.hosting.read(connection, count)
        if self.any_loose:
            self.note_released(connection.hosting)
        return True

    def do_drain(self, index: int, age: int) -> bool:
        connection = self._connection(index, age)
        if connection is None or not connection.down.movable:
            return False
        connection.hosting.writable(connection)
        return True

    def _hosting(self, index: int) -> Hosting | None:
        if index >= len(self.processes):
            return None
        process = self.processes[index]
        return process.hosting if process.awake and process.hosts else None

    def do_tick(self, index: int) -> bool:
        hosting = self._hosting(index)
        if hosting is None or not hosting.due:
            return False
        hosting.tick()
        self.note_released(hosting)
        return True

    def do_look(self, index: int) -> bool:
        hosting = self._hosting(index)
        if hosting is None:
            return False
        hosting.look()
        return True

    def do_beat(self, index: int) -> bool:
        hosting = self._hosting(index)
        if hosting is not None:
            hosting.beat()
        return hosting is not None

    # What goes wrong:

    def do_wipe(self) -> bool:
        """Somebody deletes the directory: the lock file and all presence files are gone."""
        if self.holder is not None:
            self.checks.replaced(self.holder)
        self.holder = None
        self.epoch = 0
        self.wiped = True
        for process in self.processes:
            process.listed = False
        return True

    def do_pause(self, index: int) -> bool:
        process = self._running(index)
        if process is not None:
            process.paused_at, process.awake = self.now, False
        return process is not None

    def do_resume(self, index: int) -> bool:
        process = self.processes[index] if index < len(self.processes) else None
        if process is None or process.paused_at is None:
            return False
        if process.hosts:
            process.hosting.unseen += self.now - process.paused_at
        process.paused_at, process.woke_at = None, self.now
        process.awake = process.alive or (process.leaving and process.present)
        return True

    def do_crash(self, index: int) -> bool:
        if index >= len(self.processes) or not self.processes[index].present:
            return False
        process = self.processes[index]
        if process.hosts:
            process.hosting.ends("dies")
        process.crash()
        for hosting in self.hostings:
            if hosting.process is process:
                hosting.close()
        return True

    def do_free(self, index: int) -> bool:
        """The kernel has closed the descriptors of a dead process: its locks are free."""
        if index >= len(self.processes):
            return False
        process = self.processes[index]
        if process.alive or not process.present or process.leaving:
            return False
        process.present = False
        self.freed = True
        if self.holder is not None and self.holder.process is process:
            self.holder = None
        return True

    def do_cut(self, index: int, up: int, down: int) -> bool:
        """A connection breaks."""
        if index >= len(self.processes) or self.processes[index].connection is None:
            return False
        self.processes[index].connection.cut(up, down)
        return True

    def do_leave(self, index: int) -> bool:
        process = self._running(index)
        if process is None:
            return False
        process.say_goodbye()
        self.checks.work.loosen(process)
        return True

    def do_depart(self, index: int) -> bool:
        if index >= len(self.processes):
            return False
        process = self.processes[index]
        if not process.leaving or not process.present or process.paused_at is not None:
            return False
        process.depart()
        return True


_STEPS: dict[str, Callable[..., bool]] = {
    name.removeprefix("do_"): step for name, step in vars(World).items() if name.startswith("do_")
}
