"""What is in a channel directory, seen from outside."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from open_channel import ChannelSocket, open_channel
from open_channel.errors import PathTooLong
from open_channel.io.directory import ChannelFiles
from open_channel.io.inspect import (
    insecurity,
    inspect_channel,
    list_channels,
    list_stale,
    listens,
    lock_holders,
    socket_room,
    unusable,
)
from open_channel.io.lockfile import LockFile
from open_channel.protocol.records import HostRecord, MemberRecord, encode_record

LISTENER = "l"


async def echo(socket: ChannelSocket) -> None:
    async for message in socket:
        socket.write(message)


def files_of(directory: Path, name: str) -> ChannelFiles:
    return ChannelFiles.of(str(directory), name)


def write_host(directory: Path, name: str, file: str = "none") -> str:
    path = files_of(directory, name).lock(LISTENER)
    record = HostRecord(name, "listener", 1, 3, file, 4711, "0" * 32, 1.0)
    Path(path).write_bytes(encode_record(record))
    return path


# --- channels -------------------------------------------------------------------------------------


async def test_living_channels_are_listed_by_name(channel_dir: Path):
    async with open_channel("b", echo).connect(), open_channel("a", echo).connect():
        channels = list_channels(str(channel_dir))
        assert [channel.name for channel in channels] == ["a", "b"]
        for channel in channels:
            (host,) = channel.hosts
            assert host.alive
            assert host.record is not None
            assert (host.record.pid, host.service) == (os.getpid(), "listener")
            assert [member.pid for member in channel.members] == [os.getpid()]
            assert host.pulse is not None
            assert abs(time.time() - host.pulse) < 60


async def test_one_channel(channel_dir: Path):
    async with open_channel("a", echo).connect(), open_channel("b", echo).connect():
        channel = inspect_channel(str(channel_dir), "a")
        assert channel is not None
        assert channel == list_channels(str(channel_dir))[0]


def test_a_dead_host_is_still_known(channel_dir: Path):
    write_host(channel_dir, "a")
    (channel,) = list_channels(str(channel_dir))
    (host,) = channel.hosts
    assert not host.held
    assert not host.alive
    assert host.record is not None
    assert host.record.epoch == 3
    assert channel.members == ()


def test_a_lock_without_a_record(channel_dir: Path):
    lock = LockFile.acquire(files_of(channel_dir, "a").lock(LISTENER))
    assert lock is not None
    assert list_channels(str(channel_dir)) == []  # no file says its name
    channel = inspect_channel(str(channel_dir), "a")
    assert channel is not None
    (host,) = channel.hosts
    assert (host.service, host.held, host.alive) == (LISTENER, True, False)
    lock.release()


def test_a_dead_member_tells_a_name_and_is_no_member(channel_dir: Path):
    files = files_of(channel_dir, "a")
    record = MemberRecord("a", "ab" * 16, 4711, 1.0, True, False, {})
    Path(files.presence(record.member)).write_bytes(encode_record(record))
    assert list_channels(str(channel_dir)) == []
    assert inspect_channel(str(channel_dir), "a") is None
    lock = LockFile.acquire(files.lock(LISTENER))
    assert lock is not None
    assert [channel.name for channel in list_channels(str(channel_dir))] == ["a"]
    lock.release()


def test_a_record_under_a_foreign_name_is_ignored(channel_dir: Path):
    Path(write_host(channel_dir, "a")).rename(files_of(channel_dir, "b").lock(LISTENER))
    assert list_channels(str(channel_dir)) == []


def test_a_missing_directory_holds_nothing(channel_dir: Path):
    missing = str(channel_dir / "missing")
    assert list_channels(missing) == []
    assert inspect_channel(missing, "a") is None
    assert list_stale(missing) == []


def test_no_channel_fits_a_path_that_is_too_long(channel_dir: Path):
    with pytest.raises(PathTooLong):
        inspect_channel(str(channel_dir / ("x" * 80)), "a")


# --- the directory --------------------------------------------------------------------------------


def test_insecurity(channel_dir: Path):
    assert insecurity(str(channel_dir)) == ""
    assert insecurity(str(channel_dir / "missing")) == ""
    assert not (channel_dir / "missing").exists()
    channel_dir.chmod(0o750)
    assert "lets others in" in insecurity(str(channel_dir))


def test_unusable(channel_dir: Path, monkeypatch: pytest.MonkeyPatch):
    file = channel_dir / "file"
    file.touch()
    assert unusable(str(channel_dir)) == ""
    assert unusable(str(channel_dir / "missing")) == "No such file or directory"
    assert unusable(".") == "it is a relative path"
    assert unusable(str(file)) == "it is not a directory"
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        assert unusable(str(channel_dir)) == "it is not writable"
    owner = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    reason = f"it belongs to user {owner}, and this process runs as {owner + 1}"
    assert unusable(str(channel_dir)) == reason


def test_socket_room(channel_dir: Path):
    length, limit = socket_room(str(channel_dir))
    assert length == len(str(channel_dir)) + 40
    assert limit in (103, 107)
    exact = "/" + "x" * (limit - 41)
    assert socket_room(exact) == (limit, limit)
    ChannelFiles.of(exact, "a")
    with pytest.raises(PathTooLong):
        ChannelFiles.of(exact + "x", "a")


# --- who holds what, and what nobody does ---------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the kernel does not tell")
def test_lock_holders(channel_dir: Path):
    lock = LockFile.acquire(str(channel_dir / "lock"))
    assert lock is not None
    assert lock_holders()[lock.status] == (os.getpid(),)
    lock.release()
    assert lock.status not in lock_holders()


def test_lock_holders_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("builtins.open", refuse)
    assert lock_holders() == {}


def test_listens(channel_dir: Path):
    path = str(channel_dir / "socket")
    assert not listens(path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        assert not listens(path)
        sock.listen(0)
        assert [listens(path) for _ in range(3)] == [True] * 3  # with a full backlog too
    assert not listens(path)


async def test_nothing_of_a_living_channel_is_stale(channel_dir: Path):
    async with open_channel("a", echo).connect():
        assert list_stale(str(channel_dir)) == []


def test_what_is_stale(channel_dir: Path):
    files = files_of(channel_dir, "a")
    write_host(channel_dir, "a")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(files.path(files.socket(LISTENER, 1)))
    Path(files.presence("ab" * 16)).touch()
    young, old = Path(files.temporary()), Path(files.temporary())
    for path in (young, old):
        path.touch()
    os.utime(old, (1.0, 1.0))
    (channel_dir / "junk").touch()
    found = {Path(stale.path).name: stale.what for stale in list_stale(str(channel_dir))}
    assert found == {
        files.socket(LISTENER, 1): "a socket on which nobody listens",
        f"{files.key}.m.{'ab' * 16}": "the presence of a member that is dead",
        old.name: "a file that never got its name",
        "junk": "no file of a channel",
    }
