"""A member: one opened channel in one process, with its id, its files and its presence."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from open_channel.io.arena import Arena
from open_channel.io.presence import Presence
from open_channel.protocol.records import MemberRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from open_channel.io.directory import ChannelFiles
    from open_channel.protocol.limits import Limits

__all__ = ["Member"]


class Member:
    """What every link of one opened channel shares."""

    __slots__ = ("_links", "_record", "arena", "files", "id", "limits", "presence")

    def __init__(
        self,
        files: ChannelFiles,
        limits: Limits,
        *,
        listens: bool,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.files = files
        self.limits = limits
        self.id = os.urandom(16)
        self._record = MemberRecord(
            files.name,
            self.id.hex(),
            os.getpid(),
            time.time(),
            listens,
            bus=False,
            labels=dict(labels or {}),
        )
        self.presence = Presence(files, self._record)
        """To be assured before each hello."""
        self.arena = Arena(limits.shared)
        """Where large messages lie while others copy them."""
        self._links = 0

    @property
    def labels(self) -> dict[str, str]:
        """What it says of itself."""
        return self._record.labels

    def join(self, *, bus: bool = False) -> None:
        """One more part of the channel is in use; ``bus`` makes a broker wait for this member.

        Raises OSError when the presence file cannot be changed.
        """
        if bus and not self._record.bus:
            record = self._record._replace(bus=True)
            self.presence.change(record)
            self._record = record
        self._links += 1

    def leave_bus(self) -> None:
        """No broker is to wait for this member any more.

        Before it gives up its own hosting, or the next host would wait for it. Again is harmless.
        """
        if self._links == 1:
            self.presence.leave()
        elif self._record.bus:
            self._record = self._record._replace(bus=False)
            with contextlib.suppress(OSError):  # the next host waits, but not for ever
                self.presence.change(self._record)

    def leave(self) -> None:
        """One less; with the last, the member is gone."""
        self._links -= 1
        if not self._links:
            self.presence.leave()
            self.arena.close()
