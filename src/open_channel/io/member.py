"""A member: one opened channel in one process, with its id, its files and its presence."""

from __future__ import annotations

import os
import time

from open_channel.io.directory import ChannelFiles
from open_channel.io.presence import Presence
from open_channel.protocol.limits import Limits
from open_channel.protocol.records import MemberRecord

__all__ = ["Member"]


class Member:
    """What every link of one opened channel shares."""

    __slots__ = ("files", "id", "limits", "presence")

    def __init__(self, files: ChannelFiles, limits: Limits, *, listens: bool) -> None:
        self.files = files
        self.limits = limits
        self.id = os.urandom(16)
        record = MemberRecord(files.name, self.id.hex(), os.getpid(), time.time(), listens)
        self.presence = Presence(files, record)
        """To be assured before each hello, and left at the end."""
