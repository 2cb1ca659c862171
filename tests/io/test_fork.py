"""What a forked child lets go of."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from open_channel import open_channel
from open_channel.io import credentials, fork, lockfile
from open_channel.io.lockfile import LockFile, is_locked
from open_channel.io.pulse import Pulse
from open_channel.io.wire import Wire
from open_channel.protocol.frames import Frame


def in_child(function: Any) -> object:
    """Run a function in a forked child; True when it returned True there."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if function() is True else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class Thing:
    def __init__(self) -> None:
        self.calls = 0

    def forked(self) -> None:
        self.calls += 1


def test_what_is_watched_is_told_in_the_child_alone() -> None:
    thing, other = Thing(), Thing()
    fork.watch(thing)
    fork.watch(other)
    fork.unwatch(other)
    fork.unwatch(other)
    try:
        assert in_child(lambda: (thing.calls, other.calls) == (1, 0))
        assert thing.calls == 0
        # A grandchild: it was the child's business to let go, and it has.
        assert in_child(lambda: in_child(lambda: thing.calls == 1))
    finally:
        fork.unwatch(thing)


def test_a_lock_stays_the_parents(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = LockFile.acquire(path)
    assert lock is not None

    def child() -> bool:
        lock.release()  # harmless here: the child has closed it, and must not unlock it
        return not lock.holds() and is_locked(path) and LockFile.acquire(path) is None

    assert in_child(child)
    assert lock.holds()
    assert is_locked(path)
    lock.release()


def test_the_child_closes_the_lock(tmp_path: Path) -> None:
    """Or it would hold it after its parent's end."""
    lock = LockFile.acquire(str(tmp_path / "lock"))
    assert lock is not None
    fd = lock._fd

    def child() -> bool:
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError:
            return True
        return False

    assert in_child(child)
    lock.release()


def test_no_descriptor_is_left_in_the_child(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = LockFile.acquire(path)
    assert lock is not None
    pulse = Pulse(path, 10.0, lambda: True)
    try:
        assert descriptors(path) == 2
        assert in_child(lambda: descriptors(path) == 0)
    finally:
        pulse.stop()
        lock.release()


@pytest.mark.parametrize("how", [is_locked, LockFile.acquire], ids=["is_locked", "acquire"])
def test_a_fork_beside_one_who_looks_at_a_lock_inherits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[str], object]
) -> None:
    path = str(tmp_path / "lock")
    Path(path).touch()
    try_lock, inside, go_on = lockfile._try_lock, threading.Event(), threading.Event()

    def slowly(fd: int, kind: int) -> bool:
        locked = try_lock(fd, kind)
        inside.set()
        go_on.wait(20)
        return locked

    monkeypatch.setattr(lockfile, "_try_lock", slowly)
    found: list[object] = []
    looking = threading.Thread(target=lambda: found.append(how(path)))
    looking.start()
    inside.wait(20)
    # The fork has to wait for the other thread; one that does not wait is early, and seen to be.
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    assert in_child(lambda: descriptors(path) == 0)
    looking.join()
    timer.join()
    if isinstance(found[0], LockFile):
        found[0].release()


def descriptors(path: str) -> int:
    """How many descriptors of this process are of a file."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the listing itself had
            count += os.readlink(entry) == path
    return count


def test_a_reused_number_is_not_closed_later(tmp_path: Path) -> None:
    """The child's own descriptors get the numbers of those it let go of."""
    lock = LockFile.acquire(str(tmp_path / "lock"))
    assert lock is not None
    fd = lock._fd

    def child() -> bool:
        left, right = socket.socketpair()
        os.dup2(left.fileno(), fd)
        lock.release()
        lock.forked() if lock._fd >= 0 else None
        os.fstat(fd)
        right.close()
        return True

    assert in_child(child)
    lock.release()


# --- sockets --------------------------------------------------------------------------------------


def sockets() -> set[str]:
    """Which sockets this process has descriptors of."""
    found: set[str] = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(os.readlink(entry))
    return {link for link in found if link.startswith("socket:")}


class Deaf:
    """It is told nothing here."""

    def frames_received(self, frames: list[Frame]) -> None: ...

    def writable(self) -> None: ...

    def wire_lost(self, reason: str) -> None: ...


def test_a_wire_is_closed_in_the_child_from_its_making_on() -> None:
    """And nobody keeps one that was never started."""
    ours, theirs = socket.socketpair()
    link = os.readlink(f"/proc/self/fd/{ours.fileno()}")
    wire = Wire(ours, Deaf(), "chat: connection")
    assert link in sockets()
    assert in_child(lambda: link not in sockets())
    ours.close()
    kept = weakref.ref(wire)
    del wire
    assert kept() is None
    assert in_child(lambda: True)
    theirs.close()


@pytest.mark.parametrize("side", ["dialer", "host"])
def test_a_fork_beside_one_who_connects_inherits_nothing(
    channel_dir: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """Or its peer would never see the end of the connection."""
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()
    links: list[str] = []
    known = credentials.credentials

    def slowly(sock: socket.socket) -> credentials.Credentials:
        if not links:
            links.append(os.readlink(f"/proc/self/fd/{sock.fileno()}"))
            inside.set()
            go_on.wait(20)
        return known(sock)

    monkeypatch.setattr(f"open_channel.io.{side}.credentials", slowly)

    async def member() -> None:
        async with open_channel("chat"):
            await asyncio.to_thread(done.wait, 20)

    running = threading.Thread(target=lambda: asyncio.run(member()))
    running.start()
    assert inside.wait(20)
    # The fork has to wait for the other thread; one that does not wait is early, and seen to be.
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    try:
        assert in_child(lambda: not sockets() & set(links))
    finally:
        done.set()
        running.join()
        timer.join()
