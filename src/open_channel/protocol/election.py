"""Who hosts: the decisions of one who looks for the host.

The host of a service is who holds the lock on the file that the lock path names. One who looks for
it reports a ``View`` of that file and gets back one thing to do: dial the host it names, host
(the lock was free, and is held now), wait a moment and look again, or depose a host that shows no
sign of life. The looking and the doing belong to ``open_channel.io``; there is no state here but
what the decisions need.
"""

from enum import Enum
from typing import NamedTuple

from open_channel.protocol.backoff import LONGEST_WAIT, Backoff
from open_channel.protocol.heartbeat import MISSED
from open_channel.protocol.records import HostRecord

__all__ = [
    "Action",
    "Depose",
    "Dial",
    "Election",
    "Host",
    "LockState",
    "View",
    "Wait",
]


class LockState(Enum):
    """What trying the lock gave."""

    WON = "won"
    """It was free and is ours now."""
    BUSY = "busy"
    """Somebody holds it: a host, one that is starting, or one that is just dying."""
    BARRED = "barred"
    """Not tried: this member does not host this service."""


class View(NamedTuple):
    """What one look at the lock file showed."""

    lock: LockState
    file: tuple[int, int] | None
    """Device and inode; None where there is no file."""
    record: HostRecord | None
    pulse: int | None
    """A number that a living host raises."""


class Host(NamedTuple):
    """Host it: the lock is ours."""

    epoch: int


class Dial(NamedTuple):
    """Connect to the host that the record names."""

    record: HostRecord


class Wait(NamedTuple):
    """Look again after so many seconds."""

    delay: float
    reason: str


class Depose(NamedTuple):
    """Put a new lock file in the place of the one that shows no sign of life, and host."""

    file: tuple[int, int]
    epoch: int


Action = Host | Dial | Wait | Depose

_FIRST_EPOCH = 1
_LIVED = 1.0  # seconds: a connection that ends sooner is retried with growing delays


class Election:
    """One member's part in the election of a service's host."""

    __slots__ = (
        "_backoff",
        "_failed",
        "_hung",
        "_looked",
        "_pulse",
        "_since",
        "_suspect",
        "_timeout",
    )

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._backoff = Backoff()
        self._failed = 0  # the hosting that could not be reached at the last try
        self._hung = 0  # the hosting that was found to be hung
        self._suspect: tuple[tuple[int, int] | None, int] | None = None
        self._since = 0.0  # when the suspect last gave a sign of life
        self._looked = -timeout
        self._pulse: int | None = None

    def connected(self) -> None:
        """The host welcomed us."""
        self._failed = self._hung = 0
        self._looked = -self._timeout  # whatever was seen before says nothing any more

    def lost(self, record: HostRecord, lived: float) -> None:
        """The connection to the host is gone, ``lived`` seconds after the welcome."""
        if lived >= _LIVED:
            self._backoff.reset()
        else:
            self._failed = record.hosting

    def failed(self, record: HostRecord) -> None:
        """The host that the record names could not be reached, or did not welcome us."""
        self._failed = record.hosting

    def hung(self, hosting: int) -> None:
        """A hosting was silent for too long and showed no pulse."""
        self._hung = hosting

    def decide(self, view: View, now: float, chance: float) -> Action:
        """What to do after a look; ``chance`` is a random number from 0 to 1."""
        record = view.record
        hosting = record.hosting if record else 0
        epoch = record.epoch + 1 if record else _FIRST_EPOCH
        if view.lock is LockState.WON:
            return Host(epoch)
        if self._is_dead(view, hosting, now) and view.file is not None:
            return Depose(view.file, epoch)
        if record is None:
            missing = "nobody hosts it" if view.file is None else "its host has not published yet"
            return Wait(self._backoff.next(chance), missing)
        if hosting == self._failed:
            self._failed = 0
            return Wait(
                self._backoff.next(chance), f"its last host, pid {record.pid}, did not answer"
            )
        return Dial(record)

    def _is_dead(self, view: View, hosting: int, now: float) -> bool:
        """Whether who holds the lock has shown no life for the whole timeout."""
        suspect = view.file, hosting
        # One who was stopped or busy itself has not been watching: it begins anew.
        away = now - self._looked > self._timeout / 2 + 2 * LONGEST_WAIT
        self._looked = now
        if suspect != self._suspect:
            self._suspect = suspect
            self._since = now
            self._pulse = view.pulse
            self._backoff.reset()
        elif away or view.pulse != self._pulse:
            self._since = now
            self._pulse = view.pulse
        if view.lock is not LockState.BUSY:
            return False
        patience = self._timeout
        if view.record is not None:
            patience = max(patience, MISSED * view.record.heartbeat)
        return (hosting != 0 and hosting == self._hung) or now - self._since >= patience
