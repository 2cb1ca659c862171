"""Election among real processes: many at once, hosts that are killed, hosts that leave."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.members import Member, agree, all_handled, files, handled, record, start
from tests.processes import Processes, wait_for

CROWD = 100


def crowd_hosts(crowd: Member, count: int) -> dict[int, int]:
    """Wait until all the processes of a crowd are connected; return each one's host."""

    def all_connected(events: list[dict[str, int]]) -> dict[int, int] | None:
        hosts = {e["pid"]: e["connected"] for e in events if "connected" in e}
        agreed = len(hosts) == count and len(set(hosts.values())) == 1
        return hosts if agreed else None

    hosts: dict[int, int] = crowd.wait(all_connected, f"{count} connected to one host")
    return hosts


def entries(directory: Path, kind: str) -> list[str]:
    """The channel's files of one kind: "l." for sockets, "m." for presence, "t." for temporary."""
    prefix = f"{files(directory).key}.{kind}"
    return sorted(entry for entry in os.listdir(directory) if entry.startswith(prefix))


def leave_stale(processes: Processes, directory: Path) -> None:
    """What five killed members leave, and the sockets of hosts that died before them."""
    members = [start(processes) for _ in range(5)]
    agree(members)
    for member in members:
        member.stop()  # or one of them would tidy up while the others die
    for member in members:
        member.kill()
    for hosting in range(3):
        path = files(directory).path(files(directory).socket("l", hosting + 1))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
        os.utime(path, (0, 0))
    assert len(entries(directory, "l.")) == 4
    assert len(entries(directory, "m.")) == 5


@pytest.mark.parametrize("stale", [False, True], ids=["empty", "stale"])
def test_a_hundred_processes_start_at_once(
    channel_dir: Path, processes: Processes, stale: bool
) -> None:
    if stale:
        leave_stale(processes, channel_dir)
    crowd = start(processes, count=CROWD)
    hosts = crowd_hosts(crowd, CROWD)
    assert set(hosts.values()) <= set(hosts)  # one of them, and they all named the same
    assert len(entries(channel_dir, "m.")) == CROWD
    wait_for(lambda: len(entries(channel_dir, "l.")) == 1, "one socket is left")
    assert record(channel_dir).socket == entries(channel_dir, "l.")[0]
    assert not entries(channel_dir, "t.")
    assert not [event for event in crowd.events if "lost" in event]
    crowd.popen.stdin.close()
    crowd.expect("crowd")
    assert crowd.errors() == ""


def test_the_host_is_killed_again_and_again(channel_dir: Path, processes: Processes) -> None:
    members = {member.pid: member for member in (start(processes) for _ in range(8))}
    host = agree(members.values())
    for epoch in range(2, 12):
        assert record(channel_dir).epoch == epoch - 1
        dead = members.pop(host)
        seen = {pid: len(member.events) for pid, member in members.items()}
        dead.kill()
        hosts = {members[pid].connected(after=seen[pid], timeout=5)["connected"] for pid in members}
        assert len(hosts) == 1
        host = hosts.pop()
        assert host in members
        assert record(channel_dir).epoch == epoch
        assert record(channel_dir).pid == host
        newcomer = start(processes)
        newcomer.connected(host)
        members[newcomer.pid] = newcomer
        assert dead.errors() == ""
    assert agree(members.values()) == host
    assert [member.errors() for member in members.values()] == [""] * 8
    assert entries(channel_dir, "l.") == [record(channel_dir).socket]
    assert len(entries(channel_dir, "m.")) == 8


def test_takeover_does_not_wait(channel_dir: Path, processes: Processes) -> None:
    """At once means: far below the timeout after which a host is taken for hung."""
    members = {member.pid: member for member in (start(processes) for _ in range(3))}
    host = agree(members.values())
    seen = {pid: len(member.events) for pid, member in members.items()}
    dead = members.pop(host)
    dead.kill()
    for pid, member in members.items():
        lost = member.expect("lost", after=seen[pid])
        connected = member.connected(after=seen[pid])
        assert connected["at"] - lost["at"] < 1.0


def test_the_host_leaves_in_order(channel_dir: Path, processes: Processes) -> None:
    members = {member.pid: member for member in (start(processes) for _ in range(4))}
    host = agree(members.values())
    leaving = members.pop(host)
    client = next(iter(members.values()))
    client.do("stream", 1, 300, 0.002)
    client.wait(lambda _: len(client.replies()) > 50, "the stream flows")
    leaving.do("close")
    leaving.expect("closed")
    present = [channel_dir / entry for entry in entries(channel_dir, "m.")]
    assert len(present) == 3
    assert not [path for path in present if f'"pid": {host},' in path.read_text()]
    client.expect_replies(range(1, 301))
    assert agree(members.values()) != host
    assert record(channel_dir).epoch == 2
    # It told all it had handled: nothing had to be handled again.
    events = all_handled([leaving, *members.values()])
    assert sorted(int(event["handled"]) for event in events) == list(range(1, 301))
    assert entries(channel_dir, "l.") == [record(channel_dir).socket]
    assert leaving.errors() == ""


def test_a_host_that_leaves_finishes_what_it_has_in_hand(
    channel_dir: Path, processes: Processes
) -> None:
    """The one message in hand takes a second; its answer and acknowledgement still go out."""
    leaving = start(processes, slow=1.0)
    leaving.connected(leaving.pid)
    client = start(processes, slow=1.0)
    client.connected(leaving.pid)
    client.do("write", "slow one")
    leaving.wait(lambda _: handled([leaving], "slow one"), "it is in hand")
    leaving.do("close")
    client.do("write", "behind it")
    client.connected(client.pid)
    client.expect_replies(["slow one", "behind it"])
    assert len(all_handled([leaving, client], "slow one")) == 1
    assert len(all_handled([leaving, client], "behind it")) == 1


def test_the_last_one_leaves_and_another_begins(channel_dir: Path, processes: Processes) -> None:
    first = start(processes)
    first.connected(first.pid)
    first.do("close")
    first.expect("closed")
    assert entries(channel_dir, "l.") == []
    assert entries(channel_dir, "m.") == []
    second = start(processes)
    assert second.connected(second.pid)["epoch"] == 2


def test_one_without_a_listener_waits_for_a_host(channel_dir: Path, processes: Processes) -> None:
    client = start(processes, listens=False)
    client.do("write", "early")
    wait_for(lambda: client.state()["state"] == "connecting", "it looks for a host")
    host = start(processes)
    client.connected(host.pid)
    client.expect_replies(["early"])
    host.signal(signal.SIGKILL)
    wait_for(lambda: client.state()["state"] == "connecting", "it has lost the host")
    other = start(processes)
    client.connected(other.pid)
