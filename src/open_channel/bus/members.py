"""What a member tells its user of the channel: who is here, who comes and goes, and figures."""

from __future__ import annotations

import contextlib

# At run time too: whoever decodes into a Member looks at its hints.
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from open_channel.channel.listener import SERVICE as LISTENER
from open_channel.io.lockfile import is_locked, read_file
from open_channel.protocol.records import decode_host

if TYPE_CHECKING:
    from open_channel.io.directory import ChannelFiles

__all__ = ["Member", "MemberChange", "Stats", "listener_host"]


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a channel: one opened channel in one process."""

    id: str
    """32 random hexadecimal digits."""
    pid: int
    hosting: frozenset[str]
    """The services it hosts now: ``"broker"``, ``"listener"``, both or none."""
    labels: Mapping[str, str] = field(hash=False)  # a mapping need not have one
    """What it was opened with."""


@dataclass(frozen=True, slots=True)
class MemberChange:
    """A member has come or gone."""

    kind: Literal["joined", "left"]
    member: Member


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of one member's bus, from its opening on; sizes are bytes."""

    epoch: int
    """Of the broker it is connected to, or was last: how many hosts the channel has had."""
    takeovers: int
    """How many other hosts it has been connected to since the first."""
    members: int
    unacknowledged: int
    """Publications that have not arrived everywhere."""
    outbox: int
    """Their size."""
    queued: int
    """What this member's subscriptions hold, and was not taken."""
    resent: int
    """Publications sent again to a new host."""
    duplicates: int
    """Messages that arrived again and were dropped."""
    missed: int
    """Messages that this member's subscriptions lost: see ``Message.missed``."""
    left_out: int
    """Members that publications of this one were acknowledged without."""
    round_trip: float | None
    """Seconds that the last ``flush()`` or confirmed ``publish()`` took; None before one."""


def listener_host(files: ChannelFiles) -> str:
    """The id of the member that hosts the listener; empty while nobody does, as far as is known."""
    path = files.lock(LISTENER[0])
    record = decode_host(read_file(path)[0])
    with contextlib.suppress(OSError):  # no descriptor to look with, say
        if record is not None and is_locked(path):
            return record.member
    return ""
