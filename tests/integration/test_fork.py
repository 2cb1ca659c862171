"""Forks of a process that hosts, or that has a channel: who lives on, who lets go."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.members import QUICK, Member, agree, all_handled, record, start
from tests.processes import Process, Processes, wait_for

FORKING = Path(__file__).with_name("forking_script.py")


@contextmanager
def child_of(member: Member, how: str) -> Iterator[int]:
    """Let a member fork; end the child."""
    member.do(how)
    pid: int = member.expect("forked")["forked"]
    try:
        os.kill(pid, 0)
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("uvloop", [False, True], ids=["asyncio", "uvloop"])
def test_a_child_does_not_keep_a_dead_host_alive(
    channel_dir: Path, processes: Processes, uvloop: bool
) -> None:
    host = start(processes, uvloop=uvloop)
    host.connected(host.pid)
    client = start(processes, uvloop=uvloop)
    client.connected(host.pid)
    with child_of(host, "fork") as child:
        client.do("write", "still here")
        client.expect_replies(["still here"])
        seen = len(client.events)
        host.kill()
        lost = client.expect("lost", after=seen, timeout=2)  # the default timeout is 3 s
        connected = client.connected(client.pid, after=seen, timeout=2)
        assert connected["at"] - lost["at"] < 0.5
        os.kill(child, 0)


def test_a_child_of_a_client_does_not_keep_it_alive(
    channel_dir: Path, processes: Processes
) -> None:
    host, client = start(processes), start(processes)
    pid = agree([host, client])
    host, client = (host, client) if host.pid == pid else (client, host)
    with child_of(client, "fork") as child:
        client.kill()
        host.wait(
            lambda events: [e for e in events if e.get("listener_ended") == client.pid],
            "its conversation has ended",
            timeout=2,
        )
        os.kill(child, 0)
        assert len(list(channel_dir.glob("*.m.*"))) >= 1


def test_a_child_made_without_the_interpreters_knowledge(
    channel_dir: Path, processes: Processes
) -> None:
    """It keeps the lock and the connections: its parent looks hung, and is deposed."""
    host = start(processes, limits=QUICK)
    host.connected(host.pid)
    client = start(processes, limits=QUICK)
    client.connected(host.pid)
    with child_of(host, "libc_fork") as child:
        client.do("write", "before")
        client.expect_replies(["before"])
        seen = len(client.events)
        host.kill()
        client.do("write", "meanwhile")
        client.connected(client.pid, after=seen, timeout=5)
        client.expect_replies(["meanwhile"])
        assert len(all_handled([client], "meanwhile")) == 1
        os.kill(child, 0)
        newcomer = start(processes, limits=QUICK)
        newcomer.connected(client.pid)
    assert record(channel_dir).epoch == 2


def test_a_host_that_leaves_releases_what_such_a_child_still_holds(
    channel_dir: Path, processes: Processes
) -> None:
    host = start(processes)
    host.connected(host.pid)
    client = start(processes)
    client.connected(host.pid)
    with child_of(host, "libc_fork"):
        seen = len(client.events)
        host.do("close")
        host.expect("closed")
        client.connected(client.pid, after=seen, timeout=2)


def run_script(processes: Processes, mode: str) -> Process:
    return processes(FORKING, mode)


def test_a_channel_of_the_parent_raises_in_the_child(
    channel_dir: Path, processes: Processes
) -> None:
    process = run_script(processes, "asyncio")
    raised = process.expect("raised")["raised"]
    assert raised == dict.fromkeys(("write", "read", "connect", "drain"), "ChannelForked")
    assert process.expect("parent")["parent"] == "echo unharmed"
    assert process.popen.wait(10) == 0
    assert process.errors() == ""


@pytest.mark.parametrize("hosting", ["parent", "other"])
def test_multiprocessing_with_fork_after_a_blocking_channel_was_opened(
    channel_dir: Path, processes: Processes, hosting: str
) -> None:
    other = start(processes, listens=hosting == "other")
    if hosting == "other":
        other.connected(other.pid)
    process = run_script(processes, "multiprocessing")
    expected = other.pid if hosting == "other" else process.pid
    process.wait(lambda events: sum("child" in event for event in events) == 3, "three children")
    children = [event for event in process.events if "child" in event]
    assert {event["peer"] for event in children} == {expected}
    assert len({event["child"] for event in children} | {process.pid}) == 4
    assert all(event["answers"] == 100 for event in children)
    assert len({event["member"] for event in children}) == 3
    assert process.expect("exit_codes")["exit_codes"] == [0, 0, 0]
    assert process.expect("parent")["parent"] == 200
    assert process.popen.wait(20) == 0
    assert process.errors() == ""
    wait_for(lambda: len(list(channel_dir.glob("*.m.*"))) == 1, "all others have left")
