"""Where channels live: which directory, whether it is safe, and which file is which.

Every process of a user must resolve the same directory, from a shell, from cron and from a
service manager, so the order is fixed, and the choice is logged and shown by the command line.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import NamedTuple

from open_channel.errors import DirectoryInsecure, NameInvalid, PathTooLong

__all__ = ["ChannelFiles", "Resolved", "check_name", "remove_file", "resolve", "secure"]

_VARIABLE = "OPEN_CHANNEL_DIR"
_NAME_LIMIT = 4096  # bytes of UTF-8; the name stands in the lock file
_SUN_PATH = 103 if sys.platform == "darwin" else 107  # unix(4), unix(7), less the final NUL


class Resolved(NamedTuple):
    """A directory, and why it is this one."""

    path: str
    why: str


def resolve(directory: str | os.PathLike[str] | None = None) -> Resolved:
    """The directory of this process's channels; nothing is created."""
    uid = os.geteuid()
    if directory is not None:
        return Resolved(os.path.abspath(directory), "given to open_channel()")
    if given := os.environ.get(_VARIABLE):
        return Resolved(os.path.abspath(given), f"${_VARIABLE}")
    if (runtime := os.environ.get("XDG_RUNTIME_DIR")) and _is_ours(runtime, uid):
        return Resolved(os.path.join(runtime, "open-channel"), "$XDG_RUNTIME_DIR")
    if _is_ours(runtime := f"/run/user/{uid}", uid):
        return Resolved(f"{runtime}/open-channel", f"{runtime} exists")
    return Resolved(f"/tmp/open-channel-{uid}", "no runtime directory of this user")  # noqa: S108


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


def check_name(name: object) -> str:
    """The name, when it can name a channel; raises NameInvalid when not."""
    if not isinstance(name, str):
        raise NameInvalid(name=name, reason=f"it is a {type(name).__name__}, not a str")
    if not name:
        raise NameInvalid(name=name, reason="it is empty")
    if not name.isprintable():
        raise NameInvalid(name=name, reason="it holds characters that cannot be printed")
    if (size := len(name.encode())) > _NAME_LIMIT:
        reason = f"it takes {size} bytes of UTF-8 and the limit is {_NAME_LIMIT}"
        raise NameInvalid(name=name, reason=reason)
    return name


class ChannelFiles(NamedTuple):
    """The files of one channel in a directory.

    A path of any name must fit a ``sun_path``, so files are called by 80 bits of the name's hash;
    the name itself stands in the lock and presence files.

        KEY.SERVICE              lock file of a service
        KEY.SERVICE.HOSTING      socket of one hosting
        KEY.m.MEMBER             presence of a member
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
        from hashlib import blake2b  # 2 ms of import that a program need not pay before it connects

        digest = blake2b(name.encode(), digest_size=10).hexdigest()
        files = cls(directory, name, digest)
        path = files.path(files.socket("l", 0))
        if (length := len(os.fsencode(path))) > _SUN_PATH:
            raise PathTooLong(path=path, length=length, limit=_SUN_PATH)
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

    def temporary(self) -> str:
        """A path that nobody else uses."""
        return self.path(f"{self.key}.t.{os.urandom(8).hex()}")
