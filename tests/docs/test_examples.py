"""The examples, run for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.modes import WebServer, check_count, host_pid, run_program, start
from tests.docs.snippets import ROOT
from tests.processes import DEADLINE, Process, Processes, processes, wait_for

__all__ = ["processes"]  # the fixture

EXAMPLES = ROOT / "examples"


def test_each_example_is_tested():
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix == ".py"}
    assert names == {"counter.py", "chat.py", "gunicorn_app.py"}


def test_the_counter_alone(channel_dir: Path):
    assert ": 1, says pid " in run_program(EXAMPLES / "counter.py", "1")


def test_the_counter_counts_for_all_and_begins_anew_when_its_host_dies(
    channel_dir: Path, processes: Processes
):
    first = start(processes, EXAMPLES, "counter.py")
    wait_for(lambda: first.lines, "the first counts")
    second = start(processes, EXAMPLES, "counter.py")
    wait_for(lambda: second.lines, "the second counts")
    assert second.lines[0].endswith(f", says pid {first.pid}")
    assert not second.lines[0].startswith(f"pid {second.pid}: 1,")
    first.kill()
    wait_for(lambda: second.lines[-1].endswith(f", says pid {second.pid}"), "the second hosts")
    assert second.errors() == ""


def hears(member: Process, line: str) -> None:
    wait_for(lambda: line in member.lines, f"pid {member.pid} hears {line!r}")


def test_the_chat_goes_on_when_its_host_is_killed(channel_dir: Path, processes: Processes):
    names = ("one", "two", "three")
    everybody = [start(processes, EXAMPLES, "chat.py", name) for name in names]
    for member, name in zip(everybody, names, strict=True):
        hears(member, f"{name} is here")
    everybody[1].send("hello all")
    for member in everybody:
        hears(member, "two: hello all")
    (host,) = [member for member in everybody if member.pid == host_pid()]
    left = [member for member in everybody if member is not host]
    host.kill()
    wait_for(lambda: host_pid() in {member.pid for member in left}, "another hosts")
    for member in left:  # who hears itself is a client of the new host
        member.send("back again")
        hears(member, f"{names[everybody.index(member)]}: back again")
    left[0].send("who is left?")
    for member in left:
        hears(member, f"{names[everybody.index(left[0])]}: who is left?")
    for member in left:
        member.popen.stdin.close()
        assert member.popen.wait(DEADLINE) == 0
        assert member.errors() == ""


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["plain", "preload"])
def test_the_workers_of_gunicorn_count_together(
    options: tuple[str, ...], channel_dir: Path, processes: Processes
):
    server = WebServer(
        processes, EXAMPLES, "gunicorn", "--workers=2", "--bind=127.0.0.1:PORT",
        "--no-control-socket", *options, "gunicorn_app:app",
    )  # fmt: skip
    check_count(server)
