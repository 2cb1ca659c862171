"""Presence files: who is here, who has left, who is dead."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from open_channel.io.directory import ChannelFiles
from open_channel.io.presence import Presence, is_present, list_members, remove_dead
from open_channel.protocol.records import MemberRecord
from tests.integration.members import start
from tests.processes import Processes


def member(number: int, since: float = 1.0) -> MemberRecord:
    return MemberRecord("chat", f"{number:032x}", os.getpid(), since, True)


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


def test_a_deleted_one_is_made_again(files: ChannelFiles) -> None:
    presence = Presence(files, member(1))
    presence.assure()
    os.unlink(files.presence(member(1).member))
    assert not is_present(files, bytes.fromhex(member(1).member))
    presence.assure()
    assert is_present(files, bytes.fromhex(member(1).member))
    presence.leave()


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
    other = channel_dir / f"{'0' * 20}.m.{'0' * 32}"  # another channel's
    other.touch()
    assert remove_dead(files) == 1
    assert len(list(channel_dir.glob("*.m.*"))) == 3


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
    assert remove_dead(files) == 0
