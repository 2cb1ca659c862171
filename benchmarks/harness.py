"""What all benchmarks share: real processes, deadlines, percentiles, reports.

A benchmark is a module with a function ``run(settings) -> Report``. Its other processes are
*roles*: module-level functions (plain or ``async``) that a fresh interpreter runs by name. Parent
and child exchange one JSON object a line, over the child's standard input and output. Nothing
sleeps to wait for readiness; each wait has a deadline.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import math
import os
import platform
import resource
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
DEADLINE = 60.0
"""Seconds that any single answer of a child may take."""

Message: TypeAlias = dict[str, Any]
Cell: TypeAlias = str | int | float


class BenchmarkError(Exception):
    """A child died, fell silent, or did what it must not do: the figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asked for. Without ``ours``, only the baselines run."""

    quick: bool = False
    ours: bool = True
    loops: tuple[str, ...] = ("asyncio", "uvloop")


# --- processes, seen from the parent --------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Child:
    """A process that runs one role."""

    role: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    _inbox: deque[Message] = field(default_factory=deque)
    _partial: bytes = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def fileno(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def tell(self, **fields: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # the next hear() says why
            self.process.stdin.write(json.dumps(fields).encode() + b"\n")

    def hear(self, timeout: float = DEADLINE) -> Message:
        return hear_any([self], timeout)[1]

    def fetch(self) -> None:
        """Read what the child has said; raises BenchmarkError when it has ended."""
        chunk = os.read(self.fileno(), 1 << 20)
        if not chunk:
            raise BenchmarkError(f"{self.role} (pid {self.pid}) ended early\n{self.last_words()}")
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        self._inbox.extend(json.loads(line) for line in lines)

    def last_words(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-3000:].decode(errors="replace").strip()

    def end(self) -> None:
        """Kill and reap the process; harmless when it has ended already."""
        self.process.kill()
        self.process.wait(DEADLINE)
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()


def hear_any(
    children: Iterable[Child], timeout: float = DEADLINE, watching: Iterable[Child] = ()
) -> tuple[Child, Message]:
    """The next message of any of these children, with its sender.

    What those say that are only watched is kept for later; if one of them ends, that is an error.
    """
    children = list(children)
    all_of_them = [*children, *watching]
    deadline = time.monotonic() + timeout
    while True:
        for child in children:
            if child._inbox:
                return child, child._inbox.popleft()
        readable, _, _ = select.select(all_of_them, [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            words = "\n".join(f"{child.role}: {child.last_words()}" for child in all_of_them)
            raise BenchmarkError(f"no answer within {timeout:g} s\n{words}")
        for child in readable:
            child.fetch()


class Crew:
    """The children of one benchmark and their private directory; all of it goes at the end."""

    def __enter__(self) -> Crew:
        self.directory = Path(
            tempfile.mkdtemp(prefix="oc-", dir="/tmp")
        )  # short: sun_path holds 104 bytes
        self._children: list[Child] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for child in self._children:
            child.process.kill()  # all at once: one that hangs in the kernel holds up no other
        for child in self._children:
            child.end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def spawn(self, role: Callable[..., Any], *, loop: str = "asyncio", **arguments: Any) -> Child:
        """Run ``role(**arguments)`` in a fresh interpreter; a coroutine in this kind of loop."""
        name = f"{role.__module__}.{role.__name__}"
        command = "import harness; harness.play_role()"
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by Child.end
        process = subprocess.Popen(
            [sys.executable, "-c", command, name, loop, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            env=child_environment(self.directory),
        )
        child = Child(name, process, errors)
        self._children.append(child)
        return child

    def adopt(self, child: Child) -> None:
        """End this process with the others: a server that the benchmark has started."""
        self._children.append(child)

    def end(self, child: Child) -> None:
        self._children.remove(child)
        child.end()


def child_environment(directory: Path) -> dict[str, str]:
    """The environment of children: this tree's library, this run's directory, bytecode cached."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONPATH"] = f"{HERE}{os.pathsep}{SOURCE}"
    environment["OPEN_CHANNEL_DIR"] = str(directory)
    return environment


# --- processes, seen from the child ---------------------------------------------------------------


def play_role() -> None:
    """Entry of a child process: ``python -c ... module.function loop json-arguments``."""
    name, loop, arguments = sys.argv[1:]
    module, _, function = name.rpartition(".")
    role = getattr(importlib.import_module(module), function)
    if not inspect.iscoroutinefunction(role):
        role(**json.loads(arguments))
        return
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(role(**json.loads(arguments)))


def loop_factory(loop: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if loop == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module(loop).new_event_loop
    return factory


def say(**fields: Any) -> None:
    """Tell the parent something, from a child."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def commands() -> AsyncIterator[Message]:
    """What the parent tells this child; ends when the parent does, so that no child outlives it."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    async for line in reader:
        yield json.loads(line)


async def until_dismissed() -> None:
    async for _ in commands():
        pass


class MemoryWatch:
    """Peak growth of this process's resident memory since the watch began, in MiB."""

    def __init__(self) -> None:
        with suppress(OSError):
            # Linux: the peak restarts from the present size.
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _peak_memory()

    def growth(self) -> float:
        return _peak_memory() - self._before


def _peak_memory() -> float:
    try:
        # Not ru_maxrss where it can be avoided: on Linux a child inherits its parent's.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except OSError:
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# --- figures --------------------------------------------------------------------------------------


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; ``share`` is between 0 and 100."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of round-by-round ratios: neighbours in time share the machine's mood."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Goal:
    """One promise: what was asked for, what was reached."""

    what: str
    goal: float
    reached: float
    at_most: bool = True
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.reached <= self.goal if self.at_most else self.reached >= self.goal

    def line(self) -> str:
        bound = "at most" if self.at_most else "at least"
        unit = f" {self.unit}" if self.unit else ""
        facts = f"goal {bound} {self.goal:.2f}{unit}, reached {self.reached:.2f}{unit}"
        verdict = "met" if self.met else "MISSED"
        return f"{self.what}: {facts}: {verdict}"


@dataclass(slots=True)
class Table:
    title: str
    header: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def text(self) -> str:
        cells = [list(self.header), *([_show(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]
        numeric = [
            any(not isinstance(row[i], str) for row in self.rows) for i in range(len(widths))
        ]
        rule = "|".join(
            "-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True)
        )
        lines = [
            " | ".join(
                cell.rjust(w) if n else cell.ljust(w)
                for cell, w, n in zip(row, widths, numeric, strict=True)
            )
            for row in cells
        ]
        head, *body = [f"| {line} |" for line in lines]
        return "\n".join([f"**{self.title}**", "", head, f"|{rule}|", *body])


def _show(cell: Cell) -> str:
    if not isinstance(cell, float):
        return str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"


@dataclass(slots=True)
class Report:
    """What one benchmark found. Figures in tables keep their full precision in the JSON."""

    name: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        parts = [f"## {self.name}", *(table.text() for table in self.tables), *self.notes]
        if self.goals:
            parts.append("\n".join(f"- {goal.line()}" for goal in self.goals))
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        content["goals"] = [asdict(goal) | {"met": goal.met} for goal in self.goals]
        return content


# --- the machine ----------------------------------------------------------------------------------


def machine(packages: Sequence[str] = ("pyzmq",)) -> dict[str, Any]:
    """What the figures depend on; ``packages`` are the peers whose versions matter."""
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in ("uvloop", "msgspec", *packages)},
        "open_channel": _library_version(),
    }


def machine_line(facts: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in facts.items())


def available_loops(wanted: Sequence[str]) -> tuple[str, ...]:
    return tuple(loop for loop in wanted if importlib.util.find_spec(loop) is not None)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def _library_version() -> str:
    """Asked of a fresh interpreter: what the children will import, not what is installed."""
    code = "import open_channel, importlib.metadata as m; print(m.version('open-channel'))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=child_environment(Path("/nonexistent")),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "import hangs"
    return done.stdout.strip() if done.returncode == 0 else "not importable"
