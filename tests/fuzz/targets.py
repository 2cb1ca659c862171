"""All targets, by name."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.brokers import Brokers
from tests.fuzz.decoders import Batches, Files, Frames, Handshakes, Records
from tests.fuzz.engine import Target
from tests.fuzz.hosts import Hosts
from tests.fuzz.members import Members
from tests.fuzz.sessions import Sessions

__all__ = ["TARGETS", "make"]

TARGETS: dict[str, Callable[[], Target]] = {
    "frames": Frames,
    "handshakes": Handshakes,
    "batches": Batches,
    "records": Records,
    "files": Files,
    "sessions": Sessions,
    "members": Members,
    "brokers": Brokers,
    "hosts": Hosts,
}


def make(name: str) -> Target:
    """A target."""
    return TARGETS[name]()
