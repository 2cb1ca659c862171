"""What others do to the files of a live channel, and that it heals."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.members import Member, agree, all_handled, files, record, start
from tests.processes import Processes, delete_directory, wait_for


def delete_lock(directory: Path) -> None:
    os.unlink(files(directory).lock("l"))


def delete_socket(directory: Path) -> None:
    os.unlink(files(directory).path(record(directory).socket))


def delete_presence(directory: Path) -> None:
    for path in directory.glob("*.m.*"):
        path.unlink(missing_ok=True)  # a member may have been faster


def delete_all_files(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink(missing_ok=True)  # a member may have been faster


def rename_directory(directory: Path) -> None:
    """The strangest of cleaners: everything lives on, elsewhere."""
    os.rename(directory, f"{directory}.old")


NUMBERS = 600
DELETIONS = [
    delete_lock,
    delete_socket,
    delete_presence,
    delete_all_files,
    delete_directory,
]


def numbers_handled(members: list[Member], sender: Member) -> None:
    """Each number was handled, and twice only what was marked the second time."""
    events = [event for event in all_handled(members) if event["sender"] == sender.pid]
    assert {int(event["handled"]) for event in events} == set(range(1, NUMBERS + 1))
    unmarked = [event["handled"] for event in events if not event["redelivered"]]
    assert len(unmarked) == len(set(unmarked))


@pytest.mark.parametrize("delete", DELETIONS, ids=lambda function: function.__name__)
def test_files_deleted_under_a_live_host(
    channel_dir: Path, processes: Processes, delete: Callable[[Path], None]
) -> None:
    host = start(processes)
    host.connected(host.pid)
    clients = [start(processes), start(processes), start(processes, listens=False)]
    for client in clients:
        client.connected(host.pid)
    sender = clients[2]
    sender.do("stream", 1, NUMBERS, 0.002)
    wait_for(lambda: len(sender.replies()) > 100, "the stream flows")
    delete(channel_dir)
    newcomer = start(processes)  # before the host has noticed
    newcomer.connected()
    wait_for(lambda: len(sender.replies()) > 200, "the stream flows")
    members = [host, *clients, newcomer]
    sender.expect_replies(range(1, NUMBERS + 1))
    wait_for(lambda: len(present(channel_dir)) == 5 or delete is delete_presence, "all present")
    pid = agree(members)
    assert record(channel_dir).pid == pid
    numbers_handled(members, sender)
    second = start(processes)
    second.connected(pid)
    second.do("write", "hello")
    second.expect_replies(["hello"])
    assert channel_dir.stat().st_mode & 0o777 == 0o700
    assert [member.errors() for member in members] == [""] * 5


def present(directory: Path) -> list[Path]:
    return list(directory.glob("*.m.*")) if directory.exists() else []


def test_a_directory_moved_away_splits_nobody_for_long(
    channel_dir: Path, processes: Processes
) -> None:
    members = [start(processes) for _ in range(3)]
    agree(members)
    rename_directory(channel_dir)
    try:
        newcomer = start(processes)
        newcomer.connected()
        pid = agree([*members, newcomer])
        assert record(channel_dir).pid == pid
    finally:
        shutil.rmtree(f"{channel_dir}.old")


def test_a_lock_file_deleted_when_the_host_is_dead(channel_dir: Path, processes: Processes) -> None:
    host = start(processes)
    host.connected(host.pid)
    client = start(processes)
    client.connected(host.pid)
    delete_lock(channel_dir)
    host.kill()
    client.connected(client.pid)
    assert record(channel_dir).epoch == 1  # it counts while the file is there


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100, b'{"name": 3}\n', b"[" * 9000])
def test_a_free_lock_file_with_nonsense_in_it(
    channel_dir: Path, processes: Processes, content: bytes
) -> None:
    Path(files(channel_dir).lock("l")).write_bytes(content)
    member = start(processes)
    member.connected(member.pid)
    assert record(channel_dir).pid == member.pid
