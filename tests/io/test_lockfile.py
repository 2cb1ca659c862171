"""Lock files: the flock on the file that the path names now."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from open_channel.io.lockfile import LockFile, file_status, is_locked, read_file
from tests.processes import Processes

HOLD = """
import sys, json
from open_channel.io.lockfile import LockFile
lock = LockFile.acquire(sys.argv[1])
print(json.dumps({"held": lock is not None}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@contextmanager
def held(path: str) -> Iterator[LockFile]:
    lock = LockFile.acquire(path)
    assert lock is not None
    try:
        yield lock
    finally:
        lock.release()


def test_one_holds_it(path: str) -> None:
    with held(path) as lock:
        assert lock.holds()
        assert LockFile.acquire(path) is None
        assert is_locked(path)
    assert not is_locked(path)
    assert not lock.holds()
    assert os.path.exists(path)  # it may be another's by now
    lock.release()  # again
    with held(path):
        pass


def test_the_file_is_its_owners_alone(path: str) -> None:
    with held(path):
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_death_releases_it(path: str, processes: Processes) -> None:
    holder = processes("-c", HOLD, path)
    assert holder.expect("held")["held"]
    assert LockFile.acquire(path) is None
    holder.signal(signal.SIGSTOP)
    assert is_locked(path)
    holder.kill()
    with held(path):
        pass


def test_a_deleted_file_is_not_held(path: str) -> None:
    with held(path) as lock:
        os.unlink(path)
        assert not lock.holds()
        with held(path) as other:
            assert other.holds()
            assert not lock.holds()


def test_a_file_deleted_between_opening_and_locking(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    deletions = [path, path]

    def flock_late(fd: int, operation: int) -> None:
        if deletions and operation & fcntl.LOCK_EX:
            os.unlink(deletions.pop())
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with held(path) as lock:
        assert lock.holds()
        assert file_status(path) == lock.status


def test_a_new_file_in_the_place_of_a_hung_holders(tmp_path: Path, path: str) -> None:
    temporary = str(tmp_path / "temporary")
    with held(path) as hung:
        lock = LockFile.create(temporary, path, over=hung.status)
        lock.write(b"new\n")
        assert hung.holds()
        assert not lock.holds()
        assert lock.put_in_place()
        assert lock.holds()
        assert not hung.holds()
        assert not os.path.exists(temporary)
        assert LockFile.acquire(path) is None
        hung.release()
        assert is_locked(path)
        lock.release()
        assert read_file(path)[0].split() == [b"new"]


def test_a_third_one_was_faster(tmp_path: Path, path: str) -> None:
    with held(path) as hung:
        late, fast = (
            LockFile.create(str(tmp_path / name), path, over=hung.status) for name in "ab"
        )
        assert fast.put_in_place()
        assert not late.put_in_place()
        late.release()
        assert fast.holds()
        assert sorted(os.listdir(tmp_path)) == ["lock"]
        fast.release()


def test_a_temporary_name_that_is_taken(tmp_path: Path, path: str) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(FileExistsError):
        LockFile.create(str(tmp_path / "taken"), path)


def test_content(path: str) -> None:
    with held(path) as lock:
        assert lock.read() == b""
        lock.write(b"a longer line\n")
        size = os.stat(path).st_size
        lock.write(b"short\n")
        assert lock.read().split() == [b"short"]
        assert lock.read().endswith(b"\n")
        assert os.stat(path).st_size == size  # in place, so that it works on a full disk
        content, status, changed = read_file(path)
        assert (content, status) == (lock.read(), lock.status)
        os.utime(path, ns=(0, 5))
        assert read_file(path)[2] == 5 != changed


def test_content_larger_than_the_file(path: str) -> None:
    with held(path) as lock:
        lock.write(b"short\n")
        lock.write(b"x" * 10_000 + b"\n")
        assert lock.read().rstrip() == b"x" * 10_000
        lock.write(b"short\n")
        assert lock.read().rstrip() == b"short"


def test_nothing_there(path: str) -> None:
    assert read_file(path, strict=True) == (b"", None, None)
    assert read_file(path) == (b"", None, None)
    assert file_status(path) is None
    assert not is_locked(path)


def test_what_cannot_be_opened(tmp_path: Path, path: str) -> None:
    os.symlink(tmp_path, path)
    assert read_file(path) == (b"", None, None)
    with pytest.raises(OSError, match="symbolic links"):
        read_file(path, strict=True)


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, _socket, lambda path: os.symlink("/", path)])
def test_what_is_no_file_is_not_waited_for(path: str, make: Callable[[str], None]) -> None:
    make(path)
    ours = os.lstat(path)
    assert not is_locked(path)
    assert read_file(path) == (b"", None, None)
    with pytest.raises(OSError):  # noqa: PT011 (the system's own words)
        read_file(path, strict=True)
    with pytest.raises(OSError):  # noqa: PT011
        LockFile.acquire(path)
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the directory, which is closed by now
            assert not os.path.samestat(os.fstat(int(descriptor)), ours)


def test_testing_does_not_disturb(path: str) -> None:
    """Two testers at once do not take each other for a holder."""
    with held(path):
        pass
    with open(path, "rb") as tester:
        fcntl.flock(tester, fcntl.LOCK_SH)
        assert not is_locked(path)


def test_links_are_not_followed(tmp_path: Path, path: str) -> None:
    (tmp_path / "real").touch()
    os.symlink(tmp_path / "real", path)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        LockFile.acquire(path)
    assert read_file(path) == (b"", None, None)


def test_the_lock_lies_above_the_sockets(path: str) -> None:
    with held(path) as lock:
        assert lock._fd >= 1000
        assert not os.get_inheritable(lock._fd)


def test_a_low_limit_of_descriptors(path: str) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, limits[1]))
    try:
        with held(path) as lock:
            assert lock._fd < 500
            assert LockFile.acquire(path) is None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
