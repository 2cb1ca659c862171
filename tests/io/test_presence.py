"""Presence files: who is here, who has left, who is dead."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from open_channel.io.directory import ChannelFiles
from open_channel.io.presence import (
    Presence,
    is_present,
    list_dead,
    list_members,
    pid_of,
    remove_dead,
)
from open_channel.protocol.records import MemberRecord
from tests.integration.members import start
from tests.processes import Processes


def member(number: int, since: float = 1.0) -> MemberRecord:
    return MemberRecord("chat", f"{number:032x}", os.getpid(), since, True, False, {})


@pytest.fixture
def files(channel_dir: Path) -> ChannelFiles:
    return ChannelFiles.of(str(channel_dir), "chat")


def test_it_comes_and_goes(files: ChannelFiles) -> None:
    presence = Presence(files, member(1))
    assert not is_present(files, bytes.fromhex(member(1).member))
    presence.assure()
    presence.assure()
    assert is_present(files, bytes.fromhex(member(1).member))
    assert list_members(files) == [member(1)]
    assert os.listdir(files.directory) == [os.path.basename(files.presence(member(1).member))]
    presence.leave()
    presence.leave()
    assert os.listdir(files.directory) == []
    presence.assure()  # a member may come back
    assert list_members(files) == [member(1)]
    presence.leave()


def test_what_is_called_like_no_member_is_none_of_them(files: ChannelFiles) -> None:
    presence = Presence(files, member(1))
    presence.assure()
    for name in ("", "x", "abc", "0" * 31):
        Path(files.presence(name)).touch()
    dead = member(2)._replace(member="f" * 32)
    Path(files.presence(dead.member)).touch()
    assert list_dead(files) == [bytes.fromhex(dead.member)]
    assert list_members(files) == [member(1)]
    presence.leave()


def test_whose_it_is(files: ChannelFiles) -> None:
    presence = Presence(files, member(1))
    presence.assure()
    assert pid_of(files, bytes.fromhex(member(1).member)) == os.getpid()
    assert pid_of(files, bytes.fromhex(member(2).member)) is None
    presence.leave()


def test_a_deleted_one_is_made_again(files: ChannelFiles) -> None:
    presence = Presence(files, member(1))
    presence.assure()
    os.unlink(files.presence(member(1).member))
    assert not is_present(files, bytes.fromhex(member(1).member))
    presence.assure()
    assert is_present(files, bytes.fromhex(member(1).member))
    presence.leave()


def test_a_change_is_published_without_a_gap(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looks in between finds the old one or the new one, and never a dead member."""
    record = member(1)
    presence = Presence(files, record)
    presence.change(record._replace(labels={"not": "made yet"}))
    assert os.listdir(files.directory) == []
    presence.assure()
    seen = []
    rename = os.rename

    def look(source: str, target: str) -> None:
        seen.append((list_members(files), list_dead(files)))
        rename(source, target)
        seen.append((list_members(files), list_dead(files)))

    monkeypatch.setattr(os, "rename", look)
    changed = record._replace(bus=True)
    presence.change(changed)
    assert seen == [([record._replace(labels={"not": "made yet"})], []), ([changed], [])]
    assert len(os.listdir(files.directory)) == 1
    os.unlink(files.presence(record.member))
    presence.assure()
    assert list_members(files) == [changed]  # what is made again is the new one
    presence.leave()
    assert os.listdir(files.directory) == []


def test_a_change_that_cannot_be_made_leaves_the_old_one(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = member(1)
    presence = Presence(files, record)
    presence.assure()

    def fail(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="no space"):
            presence.change(record._replace(bus=True))
    assert list_members(files) == [record]
    assert len(os.listdir(files.directory)) == 1
    os.unlink(files.presence(record.member))
    presence.assure()
    assert list_members(files) == [record]
    presence.leave()
    assert list_members(files) == []


def test_the_oldest_first(files: ChannelFiles) -> None:
    presences = [Presence(files, member(number, since=9.0 - number)) for number in range(3)]
    for presence in presences:
        presence.assure()
    assert [record.since for record in list_members(files)] == [7.0, 8.0, 9.0]
    for presence in presences:
        presence.leave()


def test_the_dead_are_removed_and_the_living_are_not(
    channel_dir: Path, files: ChannelFiles, processes: Processes
) -> None:
    stopped = start(processes)  # the host: or it would tidy up itself
    stopped.connected(stopped.pid)
    living, dead = start(processes, listens=False), start(processes, listens=False)
    living.connected(stopped.pid)
    dead.connected(stopped.pid)
    stopped.stop()
    dead.kill()
    assert {record.pid for record in list_members(files)} == {living.pid, stopped.pid}
    names = {path.name.rpartition(".")[2] for path in channel_dir.glob(f"{files.key}.m.*")}
    (gone,) = list_dead(files)
    assert {gone.hex()} == names - {record.member for record in list_members(files)}
    other = channel_dir / f"{'0' * 20}.m.{'0' * 32}"  # another channel's
    other.touch()
    assert remove_dead(files) == 1
    assert list_dead(files) == []
    assert len(list(channel_dir.glob("*.m.*"))) == 3


def test_what_is_called_like_a_member_and_is_no_file(files: ChannelFiles) -> None:
    """It is removed where that can be done, and does not keep what is behind it."""
    os.mkfifo(files.presence("0" * 32))
    os.symlink("/", files.presence("1" * 32))
    os.mkdir(files.presence("2" * 32))
    Path(files.presence("3" * 32)).touch()
    assert list_members(files) == []
    assert remove_dead(files) == 3
    assert os.listdir(files.directory) == [os.path.basename(files.presence("2" * 32))]


def test_what_never_got_its_name(files: ChannelFiles) -> None:
    for age in (0, 3600):
        path = files.temporary()
        Path(path).touch()
        os.utime(path, (time.time() - age,) * 2)
    assert remove_dead(files) == 1
    assert len(os.listdir(files.directory)) == 1


def test_a_missing_directory(files: ChannelFiles) -> None:
    os.rmdir(files.directory)
    assert list_members(files) == []
    assert list_dead(files) == []
    assert remove_dead(files) == 0
