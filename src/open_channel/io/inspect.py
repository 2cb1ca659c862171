"""What is in a channel directory, seen from outside: channels, who holds what, what was left.

Everything here only looks. Nothing is made, changed or removed, and looking does not disturb the
channels: a lock is tested for a moment with the shared lock, and a socket by connecting to it.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from typing import NamedTuple

from open_channel.errors import DirectoryInsecure
from open_channel.io import fork
from open_channel.io.directory import SOCKET_PATH_LIMIT, ChannelFiles, secure
from open_channel.io.lockfile import file_status, is_locked, read_file
from open_channel.io.presence import list_members
from open_channel.protocol.records import HostRecord, MemberRecord, decode_host, decode_member

__all__ = [
    "ChannelState",
    "HostState",
    "StaleFile",
    "insecurity",
    "inspect_channel",
    "list_channels",
    "list_stale",
    "listens",
    "lock_holders",
    "socket_room",
    "unusable",
]

_FILE = re.compile(r"(?P<key>[0-9a-f]{20})\.(?P<kind>[a-z])(?:\.(?P<rest>[0-9a-f]+))?")
_PRESENCE, _TEMPORARY, _USERS = "m", "t", "k"
_Holders = dict[tuple[int, int], tuple[int, ...]]
_YOUNG = 60.0  # seconds for which a file under a temporary name may still get its own


class HostState(NamedTuple):
    """Who hosts one service of a channel, or did last."""

    service: str
    """The service's name, or the letter of its file while no record says the name."""
    lock: str
    """The lock file's path."""
    held: bool
    """Whether somebody holds the lock: the service is hosted, or about to be."""
    record: HostRecord | None
    """What the present host has published, or the last one; None for nothing yet."""
    pulse: float | None
    """When the host last gave a sign of life, in seconds since 1970."""
    holders: tuple[int, ...]
    """The processes that hold the lock, as the kernel says; empty where it does not tell."""

    @property
    def alive(self) -> bool:
        """Whether there is a host that others can find."""
        return self.held and self.record is not None


class ChannelState(NamedTuple):
    """One channel at the moment of looking."""

    name: str
    key: str
    """What the names of its files begin with."""
    hosts: tuple[HostState, ...]
    """One for each service that was ever hosted."""
    members: tuple[MemberRecord, ...]
    """The living members, the oldest first."""


class StaleFile(NamedTuple):
    """A file that nobody needs."""

    path: str
    what: str


class _Entry(NamedTuple):
    """A file of a channel, by its name."""

    file: str
    key: str
    kind: str
    rest: str | None


# --- channels -------------------------------------------------------------------------------------


def list_channels(directory: str) -> list[ChannelState]:
    """The channels that have a host's record or a living member, by name.

    Raises OSError when the directory cannot be read; one that is missing holds none.
    """
    entries = _entries(directory)
    holders = lock_holders()
    channels = [
        _channel(ChannelFiles(directory, name, key), entries, holders)
        for key, name in _names(directory, entries).items()
    ]
    return sorted(channel for channel in channels if channel.hosts or channel.members)


def inspect_channel(directory: str, name: str) -> ChannelState | None:
    """One channel; None when nothing of it is there.

    Raises PathTooLong when there can be no channel in this directory.
    """
    files = ChannelFiles.of(directory, name)
    channel = _channel(files, _entries(directory), lock_holders())
    return channel if channel.hosts or channel.members else None


def _channel(files: ChannelFiles, entries: list[_Entry], holders: _Holders) -> ChannelState:
    locks = [entry for entry in entries if entry.key == files.key and _is_lock(entry)]
    hosts = [_host(files.path(entry.file), entry.kind, holders) for entry in locks]
    return ChannelState(files.name, files.key, tuple(hosts), tuple(list_members(files)))


def _host(path: str, letter: str, holders: _Holders) -> HostState:
    held = is_locked(path)
    content, status, pulse = read_file(path)
    record = decode_host(content)
    return HostState(
        service=record.service if record else letter,
        lock=path,
        held=held,
        record=record,
        pulse=None if pulse is None else pulse / 1e9,
        holders=holders.get(status, ()) if status else (),
    )


def _entries(directory: str) -> list[_Entry]:
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    matches = [_FILE.fullmatch(name) for name in names]
    return [_Entry(m[0], m["key"], m["kind"], m["rest"]) for m in matches if m]


def _is_lock(entry: _Entry) -> bool:
    return entry.rest is None and entry.kind not in (_PRESENCE, _TEMPORARY)


def _is_socket(entry: _Entry) -> bool:
    return entry.rest is not None and entry.kind not in (_PRESENCE, _TEMPORARY, _USERS)


def _names(directory: str, entries: list[_Entry]) -> dict[str, str]:
    """The channel's name for each key whose files tell it."""
    names: dict[str, str] = {}
    for entry in entries:
        if _is_socket(entry) or entry.key in names:
            continue
        content = read_file(f"{directory}/{entry.file}")[0]
        record = decode_member(content) if entry.kind == _PRESENCE else decode_host(content)
        if record is not None and ChannelFiles.of(directory, record.name).key == entry.key:
            names[entry.key] = record.name
    return names


# --- the directory --------------------------------------------------------------------------------


def insecurity(directory: str) -> str:
    """Why the library would refuse this directory as it is; empty when it would not.

    One that is missing is not refused: the first member makes it.
    """
    if not os.path.lexists(directory):
        return ""
    try:
        secure(directory)  # of what exists it changes nothing
    except DirectoryInsecure as error:
        return error.reason
    return ""


def unusable(path: str) -> str:
    """Why no channel directory can be made in ``path`` by this process; empty when it can."""
    if not os.path.isabs(path):
        return "it is a relative path"
    uid = os.geteuid()
    try:
        status = os.stat(path)
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    if status.st_uid != uid:
        return f"it belongs to user {status.st_uid}, and this process runs as {uid}"
    if not os.access(path, os.W_OK):
        return "it is not writable"
    return ""


def socket_room(directory: str) -> tuple[int, int]:
    """How many bytes a socket's path takes in this directory, and how many it may take."""
    files = ChannelFiles(directory, "x", "0" * 20)
    return len(os.fsencode(files.path(files.socket("l", 0)))), SOCKET_PATH_LIMIT


# --- who holds what, and what nobody does ---------------------------------------------------------


def lock_holders() -> _Holders:
    """Which processes hold an ``flock``, by device and inode; empty where the kernel hides it.

    The number is that of the process that took the lock. It may be dead while a child that it has
    forked keeps the lock.
    """
    try:
        with open("/proc/locks", encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        return {}
    holders: _Holders = {}
    for line in lines:
        # 7: FLOCK  ADVISORY  WRITE 4711 08:01:263423 0 EOF; who waits has an arrow before FLOCK.
        fields = line.split()
        if len(fields) < 6 or fields[1] != "FLOCK":
            continue
        major, minor, inode = fields[5].split(":")
        status = os.makedev(int(major, 16), int(minor, 16)), int(inode)
        holders[status] = (*holders.get(status, ()), int(fields[4]))
    return holders


def listens(path: str) -> bool:
    """Whether a process listens on the socket at ``path``, even one that does not answer."""
    with fork.guard, socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # a full backlog: somebody listens
            return True
        except OSError:
            return False
    return True


def list_stale(directory: str) -> list[StaleFile]:
    """What dead processes have left, and what is not a channel's at all.

    Lock files are never among it: they stay, held or not.
    """
    known = {entry.file: entry for entry in _entries(directory)}
    stale: list[StaleFile] = []
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        path = f"{directory}/{name}"
        entry = known.get(name)
        what = "no file of a channel" if entry is None else _staleness(path, entry)
        # What was just removed by its owner is not stale.
        if what and file_status(path) is not None:
            stale.append(StaleFile(path, what))
    return stale


def _staleness(path: str, entry: _Entry) -> str:
    if _is_lock(entry) or entry.kind == _USERS:
        return ""
    if _is_socket(entry):
        return "" if listens(path) else "a socket on which nobody listens"
    if is_locked(path):
        return ""
    if entry.kind == _PRESENCE:
        return "the presence of a member that is dead"
    try:
        young = time.time() - os.stat(path).st_mtime < _YOUNG
    except OSError:
        return ""
    return "" if young else "a file that never got its name"
