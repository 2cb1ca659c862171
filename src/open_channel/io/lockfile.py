"""Lock files: who holds the ``flock`` on the file that a path names now.

The kernel releases a ``flock`` at its holder's death, so a lock never has to be judged stale. What
can go wrong is the path: a cleaner deletes the file, or a hung holder is deposed by a rename. So
holding the lock means two things: the ``flock`` on a file, and that the path still names that file.
``holds()`` checks the second (the first cannot be lost while the descriptor is open).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from open_channel.io import fork

if TYPE_CHECKING:
    from typing import Self

__all__ = ["LockFile", "WaitedLockFile", "file_status", "is_locked", "read_file"]

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_NO_FILE = (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EINVAL)  # nothing, or something else
_READ = 64 * 1024  # a name of the longest, escaped, takes 24 KiB
_BLOCK = 4096

# At a process's death the kernel closes its highest descriptors first. With the lock above the
# sockets, it is free when the others read the end of their connections: of 200 killed holders
# none was still locked then, against 193 with the lock below. Where the limit of descriptors
# does not allow it, the others need a retry more.
_HIGH = 1000


class LockFile:
    """A lock that this process holds, until ``release()`` or its death."""

    __slots__ = ("_fd", "_over", "_temporary", "path", "status")

    def __init__(self, fd: int, path: str) -> None:
        with contextlib.suppress(OSError):
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH)
            os.close(fd)
            fd = high
        self._fd = fd
        self._temporary: str | None = None
        self._over: tuple[int, int] | None = None
        self.path = path
        status = _regular(fd, path)
        self.status = status.st_dev, status.st_ino
        """Device and inode of the locked file."""
        fork.watch(self)

    @classmethod
    def open(cls, path: str) -> Self:
        """The file, made if there is none; not locked yet. Raises OSError for what is no file."""
        with fork.guard:
            return cls(os.open(path, _FLAGS, 0o600), path)

    @classmethod
    def acquire(cls, path: str) -> LockFile | None:
        """Take the lock if it is free, making the file if there is none; None if it is busy."""
        while True:
            lock = cls.open(path)
            try:
                if not _try_lock(lock._fd, fcntl.LOCK_EX):
                    lock.release()
                    return None
                if lock.holds():
                    return lock
            except BaseException:  # a KeyboardInterrupt, say
                lock.release()
                raise
            lock.release()  # a cleaner or a deposer was between us: the path has another file

    @classmethod
    def create(cls, temporary: str, path: str, over: tuple[int, int] | None = None) -> LockFile:
        """A new file with the lock held, under a temporary name until ``put_in_place()``.

        ``over`` is the device and inode of the file that it is to replace.
        """
        with fork.guard:
            fd = os.open(temporary, _FLAGS | os.O_EXCL, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock = cls(fd, path)
        lock._temporary, lock._over = temporary, over
        return lock

    def put_in_place(self) -> bool:
        """Give a file made by ``create()`` its name, in the place of what has it.

        False when that is another file by now than the one to be replaced. Two who replace the
        same file at the same moment may both see True: ``holds()`` then tells who was the last.
        """
        if self._temporary is not None:
            if self._over is not None and file_status(self.path) != self._over:
                return False
            os.rename(self._temporary, self.path)
            self._temporary = None
        return True

    def holds(self) -> bool:
        """Whether the path still names the file that is locked (one ``stat``)."""
        return self._fd >= 0 and file_status(self.path) == self.status

    def read(self) -> bytes:
        """The content."""
        return os.pread(self._fd, _READ, 0)

    def write(self, content: bytes) -> None:
        """Replace the content, which is a line; a reader finds the old, the new, or no line at all.

        It is padded to whole blocks and written in place, so that a file that was once written
        can be written again when the disk is full.
        """
        size = -(-len(content) // _BLOCK) * _BLOCK
        os.pwrite(self._fd, content[:-1].ljust(size - 1) + b"\n", 0)
        os.ftruncate(self._fd, size)

    def release(self) -> None:
        """Let go of the lock; again is harmless. The file stays: no path is ever unlinked that
        another may own by now. When a signal handler raises in its midst, it can be called again.
        """
        with fork.guard:
            if self._fd < 0:
                return
            fork.unwatch(self)
            if self._temporary is not None:
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary)
            # Explicitly: a child forked by C code, without our hook, may still share the lock. What
            # a descriptor has become that was left (see ``io.locks``) has no locks on macOS.
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            fd, self._fd = self._fd, -1
            if fd >= 0:  # else a signal handler was faster
                os.close(fd)

    def forked(self) -> None:
        """In a child: close, and leave the lock to the parent (see ``io.fork``)."""
        fd, self._fd = self._fd, -1
        os.close(fd)


class WaitedLockFile(LockFile):
    """A lock file that may be waited for."""

    __slots__ = ("left",)

    def __init__(self, fd: int, path: str) -> None:
        super().__init__(fd, path)
        self.left = False
        """Whether who waits for it gets nothing."""

    def wait(self) -> None:
        """Block this thread until it is locked, or, when it was left, would have been."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError:  # after a signal: what its descriptor is now cannot be locked everywhere
            if not self.left:
                raise

    def leave(self) -> bool:
        """Let who waits for it get nothing. False when it goes on, for lack of a descriptor."""
        with fork.guard:
            try:
                reader, writer = os.pipe()
            except OSError:
                return False
            # Not closed: Python calls ``flock()`` again after a signal, and the number would be
            # somebody else's by then.
            os.dup2(reader, self._fd, inheritable=False)
            os.close(reader)
            os.close(writer)
            self.left = True
            return True


def _try_lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _open(path: str) -> tuple[int, os.stat_result]:
    """A descriptor to read a file with, and its status; raises OSError for what is no file."""
    # Without waiting: who opens a FIFO waits for somebody who writes to it.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    return fd, _regular(fd, path)


def _regular(fd: int, path: str) -> os.stat_result:
    """Its status; raises OSError, and closes the descriptor, if it is no regular file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return status


def is_locked(path: str) -> bool:
    """Whether somebody holds the lock on the file at ``path``; False where there is no file.

    It tries the shared lock, so that two who test do not take each other for a holder.
    """
    with fork.guard:
        try:
            fd, _ = _open(path)
        except OSError as error:
            if error.errno in _NO_FILE:
                return False
            raise
        try:
            return not _try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)


def file_status(path: str) -> tuple[int, int] | None:
    """Device and inode of what a path names; None for nothing."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def read_file(
    path: str, *, strict: bool = False
) -> tuple[bytes, tuple[int, int] | None, int | None]:
    """Content, device and inode, and modification time in ns, of one file at one moment.

    They are empty where there is no file, and where it cannot be opened, which raises OSError when
    ``strict``.
    """
    with fork.guard:
        try:
            fd, status = _open(path)
        except OSError as error:
            if strict and not isinstance(error, FileNotFoundError):
                raise
            return b"", None, None
        try:
            return os.pread(fd, _READ, 0), (status.st_dev, status.st_ino), status.st_mtime_ns
        finally:
            os.close(fd)
