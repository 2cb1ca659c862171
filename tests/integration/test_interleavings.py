"""Two hosts that start, in every order of their steps, and what others must never do to a host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from open_channel.io.lockfile import file_status
from tests.integration.members import QUICK, Member, agree, files, record, start
from tests.processes import Processes

# Where the first one is stopped: on its way from finding no host to being one.
STARTING = (
    "LockFile.acquire-",
    "LockFile.acquire+",
    "Host.bind-",
    "Host.bind+",
    "Host.publish+",
    "Host.serve+",
)
# Where the second one is stopped, which deposes the first.
DEPOSING = (
    "LockFile.create-",
    "LockFile.create+",
    "Host.publish+",
    "LockFile.put_in_place-",
    "os.rename-",
    "LockFile.put_in_place+",
    "Host.serve+",
)


def works(members: list[Member]) -> None:
    """All are connected to one host, the files say so, and messages go through."""
    host = agree(members)
    for member in members:
        text = f"from {member.pid} to {host}"
        member.do("write", text)
        member.expect_replies([text])
        assert [e["host"] for e in member.events if e.get("reply") == text] == [host]
        assert member.errors() == ""


@pytest.mark.parametrize("place", STARTING)
def test_one_starts_while_the_other_is_between_two_steps(
    channel_dir: Path, processes: Processes, place: str
) -> None:
    first = start(processes, limits=QUICK, stop_at=place)
    first.expect("stopping")
    first.wait_stopped()
    second = start(processes, limits=QUICK)
    second.connected(second.pid)
    first.cont()
    third = start(processes, limits=QUICK, listens=False)
    works([first, second, third])
    check_files(channel_dir)


def check_files(directory: Path, name: str = "chat") -> None:
    """The record names a socket that exists, and the lock is held on the file at the path."""
    socket = record(directory, name).socket
    assert file_status(files(directory, name).path(socket)) is not None


@pytest.mark.parametrize("place", STARTING[1:])
def test_both_are_stopped_between_two_steps(
    channel_dir: Path, processes: Processes, place: str
) -> None:
    """All the pairs with one place of the first, each pair on a channel of its own, at once."""
    pairs = []
    for name in DEPOSING:
        first = start(processes, name=name, limits=QUICK, stop_at=place)
        pairs.append((name, first))
    for _, first in pairs:
        first.expect("stopping")
        first.wait_stopped()
    triples = [
        (name, first, start(processes, name=name, limits=QUICK, stop_at=name))
        for name, first in pairs
    ]
    for _, _, second in triples:
        second.expect("stopping")
        second.wait_stopped()
    for _, first, _ in triples:
        first.cont()
    for name, first, second in triples:
        # It stands alone now: it goes on hosting, or deposes the other in turn.
        first.connected(first.pid)
        second.cont()
        third = start(processes, name=name, limits=QUICK, listens=False)
        works([first, second, third])
        check_files(channel_dir, name)


def test_a_live_hosts_files_survive_all_comers(channel_dir: Path, processes: Processes) -> None:
    host = start(processes)
    host.connected(host.pid)
    lock = files(channel_dir).lock("l")
    socket = files(channel_dir).path(record(channel_dir).socket)
    before = file_status(lock), file_status(socket)
    assert None not in before
    # A file that looks as old as a dead host's is not taken for one.
    os.utime(socket, (0, 0))
    for listens in (True, False):
        crowd = start(processes, count=25, once=True, listens=listens)
        crowd.expect("crowd")
        replies = [event["reply"] for event in crowd.events if "reply" in event]
        assert replies == [f"{host.pid} once"] * 25
        assert crowd.errors() == ""
    killed = [start(processes) for _ in range(5)]
    for member in killed:
        member.connected(host.pid)
        member.kill()
    assert (file_status(lock), file_status(socket)) == before
    assert host.state()["state"] == "connected"
    assert not [event for event in host.events if "lost" in event]
    assert record(channel_dir).epoch == 1


def test_two_names_have_two_hosts(channel_dir: Path, processes: Processes) -> None:
    """Two names in one directory have nothing to do with each other."""
    one, two = start(processes, name="one"), start(processes, name="two")
    one.connected(one.pid)
    two.connected(two.pid)
    assert files(channel_dir, "one").key != files(channel_dir, "two").key
