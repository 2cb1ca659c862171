"""The figures of a pattern as they are kept: one JSON file, rounds and all, with the machine."""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import DEADLINE, HERE, machine, median_ratio

from peers.patterns import Figures
from peers.peer import Peer

PACKAGES = ("pyzmq", "pynng", "eclipse-zenoh", "nats-py", "redis", "hiredis", "localpub")
PROGRAMS = {"nats-server": ("-v",), "redis-server": ("-v",)}


@dataclass(slots=True)
class Found:
    """What one entry has shown, round by round."""

    peer: str
    name: str
    kind: str
    setup: str
    x: int | None = None
    count: int = 0
    """Messages (or requests...) in each round."""
    rounds: list[Figures] = field(default_factory=list)
    failed: str = ""
    """Why there are no (more) figures."""

    def all(self, what: str) -> list[float]:
        return [figures[what] for figures in self.rounds]

    def median(self, what: str) -> float:
        return statistics.median(self.all(what))

    def ratio(self, other: Found, what: str = "rate") -> float:
        """The median of the ratios of each round: neighbours in time share the machine's mood."""
        both = min(len(self.rounds), len(other.rounds))
        return median_ratio(self.all(what)[:both], other.all(what)[:both])


@dataclass(slots=True)
class Record:
    """All entries of a pattern, from interleaved rounds on one machine."""

    pattern: str
    title: str
    varies: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, Found] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    """Peers that are not installed: name, and what is missing."""
    left_out: list[str] = field(default_factory=list)
    """Entries that a quick run leaves out."""

    def measured(self) -> dict[str, Found]:
        return {key: found for key, found in self.entries.items() if found.rounds}

    def of_kind(self, kind: str) -> list[Found]:
        return [found for found in self.measured().values() if found.kind == kind]

    def variants(self, peer: str) -> Iterator[Found]:
        return (found for found in self.measured().values() if found.peer == peer)

    def add_absent(self, peer: Peer) -> None:
        self.absent[peer.name] = peer.absent()

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(rounded(asdict(self)), indent=1) + "\n"
        path = folder / f"{self.pattern}.json"
        path.with_suffix(".part").write_text(text)
        path.with_suffix(".part").replace(path)

    @classmethod
    def read(cls, path: Path) -> Record:
        content = json.loads(path.read_text())
        entries = {key: Found(**found) for key, found in content.pop("entries").items()}
        return cls(**content, entries=entries)


def rounded(content: Any) -> Any:
    """Floats with five digits: more would say more than was measured."""
    if isinstance(content, float):
        return float(f"{content:.5g}")
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list):
        return [rounded(value) for value in content]
    return content


def the_machine() -> dict[str, Any]:
    """The machine and the versions of all that is measured."""
    facts = machine(PACKAGES)
    facts |= {name: program_version(name) for name in PROGRAMS}
    facts["glibc"] = platform.libc_ver()[1]
    facts["revision"] = revision()
    return facts


def revision() -> str:
    """The commit that is measured; marked when library or benchmarks differ from it."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(HERE.parent), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE, check=False
        )

    commit = git("rev-parse", "--short", "HEAD").stdout.strip()
    changed = git("diff", "--quiet", "HEAD", "--", "src", "benchmarks").returncode == 1
    return f"{commit or 'unknown'}{'-changed' if changed else ''}"


def program_version(name: str) -> str:
    if shutil.which(name) is None:
        return "absent"
    command = [name, *PROGRAMS[name]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    words = done.stdout.split()
    return next((w.lstrip("v=") for w in words if w.lstrip("v=")[:1].isdigit()), "unknown")
