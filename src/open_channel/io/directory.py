"""Where channels live: which directory, whether it is safe, and which file is which.

Every process of a user must resolve the same directory, from a shell, from cron and from a
service manager, so the order is fixed, and the choice is logged and shown by the command line.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, NamedTuple

from open_channel.errors import DirectoryInsecure, NameInvalid, PathTooLong

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "SOCKET_PATH_LIMIT",
    "Candidate",
    "ChannelFiles",
    "Resolved",
    "candidates",
    "check_name",
    "remove_file",
    "resolve",
    "secure",
]

_VARIABLE = "OPEN_CHANNEL_DIR"
_NAME_LIMIT = 4096  # bytes of UTF-8; the name stands in the lock file

SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # unix(4), unix(7)
"""Bytes that the path of a Unix socket may take: a ``sun_path`` less its final NUL."""


class Resolved(NamedTuple):
    """A directory, and why it is this one."""

    path: str
    why: str


class Candidate(NamedTuple):
    """A place where channels may live when no directory is given."""

    name: str
    """What names it: a variable, or the place itself."""
    place: str | None
    """The directory that it stands or falls with; None when the variable is not set."""
    resolved: Resolved | None
    """What it comes to; None when it does not serve."""


def candidates() -> Iterator[Candidate]:
    """The places in their order: the first that serves is chosen, and the last always does.

    Raises DirectoryInsecure for a relative ``$OPEN_CHANNEL_DIR`` that cannot be made absolute.
    """
    uid = os.geteuid()
    variable = f"${_VARIABLE}"
    given = os.environ.get(_VARIABLE) or None
    yield Candidate(variable, given, Resolved(_absolute(given), variable) if given else None)
    runtime = os.environ.get("XDG_RUNTIME_DIR") or None
    yield _in_runtime("$XDG_RUNTIME_DIR", runtime, "$XDG_RUNTIME_DIR", uid)
    usual = f"/run/user/{uid}"
    yield _in_runtime(usual, usual, f"{usual} exists", uid)
    last = f"/tmp/open-channel-{uid}"  # noqa: S108
    yield Candidate("/tmp", "/tmp", Resolved(last, "no runtime directory of this user"))  # noqa: S108


def _in_runtime(name: str, place: str | None, why: str, uid: int) -> Candidate:
    # One that is relative does not count, as the XDG Base Directory Specification has it.
    if place is None or not os.path.isabs(place) or not _is_ours(place, uid):
        return Candidate(name, place, None)
    return Candidate(name, place, Resolved(os.path.join(place, "open-channel"), why))


def resolve(directory: str | os.PathLike[str] | None = None) -> Resolved:
    """The directory of this process's channels; nothing is created.

    Raises ValueError for an empty path: it would mean the working directory; and DirectoryInsecure
    for a relative one (of the variable, too) when the working directory has no path.
    """
    if directory is not None:
        if not (given := os.fsdecode(directory)):
            raise ValueError("directory is a path, not empty")
        return Resolved(_absolute(given), "given to open_channel()")
    return next(found for candidate in candidates() if (found := candidate.resolved))


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError as error:  # the working directory was deleted, say
        reason = f"it is relative, and the working directory has no path ({error.strerror})"
        raise DirectoryInsecure(path=path, reason=reason) from error


def _is_ours(path: str, uid: int) -> bool:
    # $XDG_RUNTIME_DIR of another user survives `su` and `sudo -E`.
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and os.access(path, os.W_OK)


def secure(path: str) -> None:
    """Make the directory if it is missing, and see that it is ours alone.

    Raises DirectoryInsecure when it cannot be made, is no directory or a symbolic link, belongs
    to another user, is open to others, or can be replaced by others.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        else:
            os.chmod(path, 0o700)  # the umask may have taken our own rights
        status = os.lstat(path)
        parent = os.stat(os.path.dirname(path))
    except OSError as error:
        raise DirectoryInsecure(path=path, reason=error.strerror or str(error)) from error
    if reason := _insecurity(status, parent):
        raise DirectoryInsecure(path=path, reason=reason)


def _insecurity(status: os.stat_result, parent: os.stat_result) -> str:
    uid = os.geteuid()
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a directory"
    if status.st_uid != uid:
        return f"it belongs to user {status.st_uid}, and this process runs as {uid}"
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        return f"its mode {stat.S_IMODE(status.st_mode):04o} lets others in ({mode:04o}), not 0700"
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        return "its parent is writable by everybody and not sticky"
    return ""


def remove_file(path: str) -> bool:
    """Unlink a file that is ours to unlink; False when it is gone already, or cannot be."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def check_name(name: object, what: str = "channel") -> str:
    """The name, when it can be one of ``what``; raises NameInvalid when not."""
    if not isinstance(name, str):
        raise NameInvalid(what=what, name=name, reason=f"it is a {type(name).__name__}, not a str")
    if not name:
        raise NameInvalid(what=what, name=name, reason="it is empty")
    if not name.isprintable():
        raise NameInvalid(what=what, name=name, reason="it holds characters that cannot be printed")
    if (size := len(name.encode())) > _NAME_LIMIT:
        reason = f"it takes {size} bytes of UTF-8 and the limit is {_NAME_LIMIT}"
        raise NameInvalid(what=what, name=name, reason=reason)
    return name


def _hash(name: str) -> str:
    """80 bits of a name's hash."""
    from hashlib import blake2b  # 2 ms of import that a program need not pay before it connects

    return blake2b(name.encode(), digest_size=10).hexdigest()


class ChannelFiles(NamedTuple):
    """The files of one channel in a directory.

    A path of any name must fit a ``sun_path``, so files are called by 80 bits of the name's hash;
    the name itself stands in the lock and presence files.

        KEY.SERVICE              lock file of a service
        KEY.SERVICE.HOSTING      socket of one hosting
        KEY.m.MEMBER             presence of a member
        KEY.k.LOCK               a lock of the users', by 80 bits of its name's hash
        KEY.t.RANDOM             any of these before it gets its name
    """

    directory: str
    name: str
    key: str

    @classmethod
    def of(cls, directory: str, name: str) -> ChannelFiles:
        """The files of the channel ``name``.

        Raises PathTooLong when its sockets would not fit in this directory.
        """
        files = cls(directory, name, _hash(name))
        path = files.path(files.socket("l", 0))
        if (length := len(os.fsencode(path))) > SOCKET_PATH_LIMIT:
            raise PathTooLong(path=path, length=length, limit=SOCKET_PATH_LIMIT)
        return files

    def path(self, file: str) -> str:
        """The whole path of one of these files."""
        return f"{self.directory}/{file}"

    def lock(self, service: str) -> str:
        """The path of a service's lock file; ``service`` is one letter."""
        return self.path(f"{self.key}.{service}")

    def socket(self, service: str, hosting: int) -> str:
        """The file name of one hosting's socket."""
        return f"{self.key}.{service}.{hosting:016x}"

    def presence(self, member: str) -> str:
        """The path of a member's presence file."""
        return self.path(f"{self.key}.m.{member}")

    def user_lock(self, name: str) -> str:
        """The path of the file of a users' lock; its name stands in the file."""
        return self.path(f"{self.key}.k.{_hash(name)}")

    def temporary(self) -> str:
        """A path that nobody else uses."""
        return self.path(f"{self.key}.t.{os.urandom(8).hex()}")
