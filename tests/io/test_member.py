"""A member: what its parts share, and when it is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from open_channel.io.directory import ChannelFiles
from open_channel.io.member import Member
from open_channel.io.presence import list_members
from open_channel.protocol.limits import Limits


@pytest.fixture
def files(channel_dir: Path) -> ChannelFiles:
    return ChannelFiles.of(str(channel_dir), "chat")


def test_it_is_who_it_says(files: ChannelFiles) -> None:
    labels = {"role": "mailer"}
    member = Member(files, Limits(), listens=True, labels=labels)
    labels["role"] = "changed later"
    assert member.labels == {"role": "mailer"}
    member.join()
    assert os.listdir(files.directory) == []  # nobody knows before it says hello
    member.presence.assure()
    (record,) = list_members(files)
    assert record.member == member.id.hex()
    assert (record.name, record.pid, record.listens) == ("chat", os.getpid(), True)
    assert (record.bus, record.labels) == (False, {"role": "mailer"})
    member.leave()


def test_two_members_are_two(files: ChannelFiles) -> None:
    first, second = (Member(files, Limits(), listens=False) for _ in range(2))
    assert first.id != second.id
    assert first.labels == second.labels == {}


def test_it_is_gone_with_the_last_of_its_parts(files: ChannelFiles) -> None:
    member = Member(files, Limits(), listens=False)
    member.join()
    member.join(bus=True)
    member.presence.assure()
    member.leave()
    assert len(list_members(files)) == 1
    member.leave()
    assert list_members(files) == []
    member.join()
    member.presence.assure()
    assert len(list_members(files)) == 1
    member.leave()
    assert os.listdir(files.directory) == []


@pytest.mark.parametrize("present", [False, True])
def test_a_broker_waits_for_whoever_has_joined_the_bus(files: ChannelFiles, present: bool) -> None:
    member = Member(files, Limits(), listens=False, labels={"role": "mailer"})
    if present:
        member.join()
        member.presence.assure()
        assert not list_members(files)[0].bus
    member.join(bus=True)
    member.presence.assure()
    made = os.stat(files.presence(member.id.hex())).st_ino
    member.join(bus=True)  # it is known already
    (record,) = list_members(files)
    assert (record.bus, record.labels) == (True, {"role": "mailer"})
    assert os.stat(files.presence(member.id.hex())).st_ino == made
    for _ in range(2 + present):
        member.leave()
    assert list_members(files) == []


def test_a_bus_that_cannot_be_joined_leaves_the_member_as_it_was(
    files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Member(files, Limits(), listens=False)
    member.join()
    member.presence.assure()

    def fail(source: str, target: str) -> None:
        raise OSError("no rename")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="no rename"):
            member.join(bus=True)
    assert not list_members(files)[0].bus
    member.leave()  # of the one part that did join
    assert list_members(files) == []
