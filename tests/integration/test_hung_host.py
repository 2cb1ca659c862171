"""A host that hangs is replaced, and one that is merely busy is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.members import QUICK, Member, agree, all_handled, record, start
from tests.processes import Processes, wait_for


def three(processes: Processes, **config: object) -> tuple[Member, Member, Member]:
    """A host and two clients that can take over."""
    host = start(processes, limits=QUICK, **config)
    host.connected(host.pid)
    clients = start(processes, limits=QUICK, **config), start(processes, limits=QUICK, **config)
    for client in clients:
        client.connected(host.pid)
    return host, *clients


def quiet(*members: Member) -> None:
    for member in members:
        assert member.errors() == ""


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_a_stopped_host_is_replaced_and_steps_down_when_it_wakes(
    channel_dir: Path, processes: Processes, uvloop: bool
) -> None:
    host, client, other = three(processes, uvloop=uvloop)
    client.do("write", "before")
    client.expect_replies(["before"])
    seen = len(client.events), len(other.events)
    host.stop()
    texts = [f"meanwhile {number}" for number in range(200)]
    client.do("write", *texts)  # they lie in the stopped host's socket
    successor = client.connected(after=seen[0])["connected"]
    other.connected(successor, after=seen[1])
    assert successor in (client.pid, other.pid)
    assert record(channel_dir).epoch == 2
    client.expect_replies(texts)
    before = len(host.events)
    host.cont()
    host.connected(successor, after=before)
    assert agree([host, client, other]) == successor
    ended = {event["listener_ended"] for event in host.events if "listener_ended" in event}
    assert ended >= {client.pid, other.pid}
    assert not [event for event in host.events[before:] if "handled" in event]
    for member in (host, client, other):
        member.do("write", f"after {member.pid}")
        member.expect_replies([f"after {member.pid}"])
        (event,) = all_handled([host, client, other], f"after {member.pid}")
        assert event["pid"] == successor
    events = all_handled([client, other])
    assert sorted(e["handled"] for e in events if e["handled"].startswith("mean")) == sorted(texts)
    quiet(host, client, other)


def test_a_stream_loses_nothing_when_hosts_are_stopped(
    channel_dir: Path, processes: Processes
) -> None:
    host, client, other = three(processes)
    members = {member.pid: member for member in (host, client, other)}
    client.do("stream", 1, 2000, 0.001)
    other.do("stream", 5001, 7000, 0.001)
    wait_for(lambda: len(client.replies()) > 300, "the stream flows")
    host.stop()
    wait_for(lambda: record(channel_dir).epoch == 2, "another host")
    second = members[record(channel_dir).pid]
    count = len(second.replies())
    wait_for(lambda: len(second.replies()) > count + 50, "its own stream goes on")
    host.cont()
    client.expect_replies(range(1, 2001))
    other.expect_replies(range(5001, 7001))
    agree(members.values())
    for sender, numbers in ((client, range(1, 2001)), (other, range(5001, 7001))):
        events = [e for e in all_handled(members.values()) if e["sender"] == sender.pid]
        check_stream([e for e in events if not e["redelivered"]], events, list(numbers))
    quiet(host, client, other)


def check_stream(first: list[Any], events: list[Any], numbers: list[int]) -> None:
    """Everything was handled; twice only what was marked the second time."""
    assert sorted({int(event["handled"]) for event in events}) == numbers
    unmarked = [int(event["handled"]) for event in first]
    assert len(unmarked) == len(set(unmarked))
    for pid in {event["pid"] for event in events}:
        order = [int(event["handled"]) for event in events if event["pid"] == pid]
        assert order == sorted(set(order))


def test_a_stopped_client_deposes_nobody(channel_dir: Path, processes: Processes) -> None:
    host, client, other = three(processes)
    for _ in range(3):
        client.stop()
        started = len(other.events)
        other.do("block", 1.0)  # another's second passes: longer than the timeout
        other.expect("blocked", after=started)
        client.cont()
        client.do("write", "awake")
        client.expect_replies(["awake"])
    assert agree([host, client, other]) == host.pid
    assert record(channel_dir).epoch == 1
    quiet(host, client, other)


def test_a_blocked_client_deposes_nobody(channel_dir: Path, processes: Processes) -> None:
    host, client, other = three(processes)
    for how in ("block", "hold"):
        for member in (client, other):
            member.do(how, 1.0)
        for member in (client, other):
            member.expect("blocked", after=len(member.events) - 1)
            assert member.state()["state"] == "connected"
    assert agree([host, client, other]) == host.pid
    assert record(channel_dir).epoch == 1
    assert not [event for m in (host, client, other) for event in m.events if "lost" in event]


def test_a_host_with_a_blocked_loop_is_not_deposed(channel_dir: Path, processes: Processes) -> None:
    host, client, other = three(processes)
    host.do("block", 2.0)  # more than three times the timeout
    host.expect("blocking")
    texts = [f"meanwhile {number}" for number in range(100)]
    client.do("write", *texts)
    newcomer = start(processes, limits=QUICK)
    other.do("write", "other")
    host.expect("blocked")
    client.expect_replies(texts)
    other.expect_replies(["other"])
    newcomer.connected(host.pid)
    members = [host, client, other, newcomer]
    assert agree(members) == host.pid
    assert record(channel_dir).epoch == 1
    assert not [event for member in members for event in member.events if "lost" in event]
    events = all_handled(members)
    assert [e["handled"] for e in events if e["sender"] == client.pid] == texts
    assert len(events) == len(texts) + 1
    quiet(*members)


def test_a_host_whose_interpreter_is_held_is_replaced(
    channel_dir: Path, processes: Processes
) -> None:
    host, client, other = three(processes)
    host.do("hold", 3.0)
    host.expect("blocking")
    client.do("write", "meanwhile")
    client.expect_replies(["meanwhile"])
    assert not [event for event in host.events if "blocked" in event]  # it hangs still
    assert record(channel_dir).epoch == 2
    host.expect("blocked")
    assert agree([host, client, other]) in (client.pid, other.pid)
    (event,) = all_handled([host, client, other], "meanwhile")
    assert event["pid"] == record(channel_dir).pid
    quiet(host, client, other)


def test_the_default_limits_notice_a_stopped_host(channel_dir: Path, processes: Processes) -> None:
    host, client = start(processes), start(processes)
    pid = agree([host, client])
    stopped, woken = (host, client) if pid == host.pid else (client, host)
    seen = len(woken.events)
    stopped.stop()
    lost = woken.expect("lost", after=seen, timeout=6)
    woken.connected(woken.pid, after=seen, timeout=6)
    assert "silent" in lost["lost"]
    stopped.cont()
    assert agree([host, client]) == woken.pid


def test_without_a_successor_the_clients_wait_for_the_stopped_host(
    channel_dir: Path, processes: Processes
) -> None:
    """They notice, but nobody can take over: when it wakes, it goes on where it was."""
    host = start(processes, limits=QUICK)
    host.connected(host.pid)
    client = start(processes, limits=QUICK, listens=False)
    client.connected(host.pid)
    host.stop()
    client.do("write", *map(str, range(100)))
    client.expect("lost")
    seen = len(client.events)
    host.cont()
    assert client.connected(host.pid, after=seen)["resumed"] is True
    client.expect_replies(range(100))
    assert [event["handled"] for event in all_handled([host])] == [str(n) for n in range(100)]
    assert record(channel_dir).epoch == 1
