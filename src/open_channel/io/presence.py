"""Presence: a file for each member, locked for as long as the member lives.

A member is dead when its lock is free; nothing else proves it (a process id may be reused, and
means nothing in another pid namespace). The file is made and locked under a temporary name, so
whoever sees it under its own name sees it locked.
"""

from __future__ import annotations

import os
import time

from open_channel.io.directory import ChannelFiles, remove_file
from open_channel.io.lockfile import LockFile, is_locked, read_file
from open_channel.protocol.records import (
    MemberRecord,
    decode_member,
    encode_record,
    is_member_id,
)

__all__ = ["Presence", "is_present", "list_dead", "list_members", "pid_of", "remove_dead"]

_LEFTOVER = 60.0  # seconds after which a file under a temporary name belongs to nobody alive


class Presence:
    """This member's own file."""

    __slots__ = ("_files", "_lock", "_record")

    def __init__(self, files: ChannelFiles, record: MemberRecord) -> None:
        self._files = files
        self._record = record
        self._lock: LockFile | None = None

    def assure(self) -> None:
        """Make the file, or make it again where something has deleted it."""
        if self._lock is not None:
            if self._lock.holds():
                return
            self._lock.release()
        path = self._files.presence(self._record.member)
        lock = LockFile.create(self._files.temporary(), path)
        try:
            lock.write(encode_record(self._record))
            lock.put_in_place()
        except OSError:
            lock.release()
            raise
        self._lock = lock

    def change(self, record: MemberRecord) -> None:
        """Publish another record from now on; raises OSError, with the old one in place."""
        before, self._record = self._record, record
        if self._lock is not None:
            previous, self._lock = self._lock, None
            try:
                self.assure()
            except OSError:
                self._lock, self._record = previous, before
                raise
            previous.release()

    def leave(self) -> None:
        """The member leaves; again is harmless."""
        lock, self._lock = self._lock, None
        if lock is not None:
            remove_file(lock.path)
            lock.release()


def is_present(files: ChannelFiles, member: bytes) -> bool:
    """Whether a member lives and has not left; True too where that cannot be told now.

    Without a descriptor to open its file with, say: whoever asks because it seems dead asks again.
    """
    try:
        return is_locked(files.presence(member.hex()))
    except OSError:
        return True


def pid_of(files: ChannelFiles, member: bytes) -> int | None:
    """The process that a member's file names; None where there is no such file."""
    record = decode_member(read_file(files.presence(member.hex()))[0])
    return record.pid if record is not None else None


def list_dead(files: ChannelFiles) -> list[bytes]:
    """The ids of members that are dead and whose files are still here."""
    prefix = f"{files.key}.m."
    ids = [entry.removeprefix(prefix) for entry in _names(files.directory)]
    return [
        bytes.fromhex(member)
        for member in ids
        if is_member_id(member) and not is_locked(files.presence(member))
    ]


def list_members(files: ChannelFiles) -> list[MemberRecord]:
    """The living members, the oldest first."""
    prefix = f"{files.key}.m."
    members: list[MemberRecord] = []
    for entry in _names(files.directory):
        path = files.path(entry)
        if entry.startswith(prefix) and is_locked(path):
            record = decode_member(read_file(path)[0])
            if record is not None:
                members.append(record)
    return sorted(members, key=lambda member: (member.since, member.member))


def remove_dead(files: ChannelFiles) -> int:
    """Delete what dead members of this channel left; returns how many files that were."""
    removed = 0
    for entry in _names(files.directory):
        path = files.path(entry)
        dead = entry.startswith(f"{files.key}.m.") and not is_locked(path)
        if dead or (entry.startswith(f"{files.key}.t.") and _is_leftover(path)):
            removed += remove_file(path)
    return removed


def _is_leftover(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > _LEFTOVER and not is_locked(path)
    except OSError:
        return False


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
