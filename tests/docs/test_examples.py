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
    assert names == {
        "ask.py",
        "chat.py",
        "counter.py",
        "drop_cache.py",
        "gunicorn_app.py",
        "jobs.py",
        "scheduler.py",
        "websockets_app.py",
    }


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


# --- the bus --------------------------------------------------------------------------------------


def says(process: Process, line: str) -> None:
    wait_for(lambda: line in process.lines, f"pid {process.pid} says {line!r}")


def kill_broker(members: list[Process]) -> list[Process]:
    """Kill the member that hosts the bus; return the others."""
    pid = host_pid()
    (host,) = [member for member in members if member.pid == pid]
    host.kill()
    left = [member for member in members if member is not host]
    wait_for(lambda: host_pid() in {member.pid for member in left}, "another hosts")
    return left


BROWSERS = """
import asyncio
import sys

from websockets_app import app


async def browser(name, typed):
    async def receive():
        if (text := await typed.get()) is None:
            return {"type": "websocket.disconnect"}
        return {"type": text} if text.startswith("websocket.") else {
            "type": "websocket.receive", "text": text,
        }

    async def send(event):
        print(name, event.get("text", "is connected"), flush=True)

    typed.put_nowait("websocket.connect")
    await app({"type": "websocket"}, receive, send)


async def main():
    events, lines = asyncio.Queue(), asyncio.StreamReader()
    events.put_nowait({"type": "lifespan.startup"})
    answers = asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan"}, events.get, answers.put))
    assert (await answers.get())["type"] == "lifespan.startup.complete"
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    one, two = asyncio.Queue(), asyncio.Queue()
    browsers = [asyncio.create_task(browser("one", one)), asyncio.create_task(browser("two", two))]
    while line := await lines.readline():
        one.put_nowait(line.decode().strip())
    one.put_nowait(None)
    two.put_nowait(None)
    await asyncio.gather(*browsers)
    events.put_nowait({"type": "lifespan.shutdown"})
    await lifespan


asyncio.run(main())
"""


PAGE = """
import asyncio
from websockets_app import app

async def send(event):
    print(event.get("status") or event["body"].decode().splitlines()[0])

asyncio.run(app({"type": "http"}, None, send))
"""


def test_the_chat_has_a_page_to_look_at(channel_dir: Path, processes: Processes):
    browser = start(processes, EXAMPLES, "-c", PAGE)
    assert browser.popen.wait(DEADLINE) == 0
    wait_for(lambda: browser.lines == ["200", "<!doctype html><title>Chat</title>"], "the page")


def test_all_websockets_of_all_workers_hear_each_other(channel_dir: Path, processes: Processes):
    workers = [start(processes, EXAMPLES, "-c", BROWSERS) for _ in range(3)]
    for worker in workers:
        says(worker, "one is connected")
        says(worker, "two is connected")
    for number in range(2):
        workers[number].send(f"hello {number}")
        for worker in workers:
            says(worker, f"one hello {number}")
            says(worker, f"two hello {number}")
    workers = kill_broker(workers)
    workers[0].send("still here?")
    for worker in workers:
        says(worker, "one still here?")
        says(worker, "two still here?")
        assert worker.lines.count("one hello 1") == 1
    for worker in workers:
        worker.popen.stdin.close()
        assert worker.popen.wait(DEADLINE) == 0
        assert worker.errors() == ""


def test_one_scheduler_works_and_another_goes_on_when_it_ends(
    channel_dir: Path, processes: Processes
):
    members = [start(processes, EXAMPLES, "scheduler.py") for _ in range(3)]
    for member in members:
        says(member, f"pid {member.pid} is here")

    def at_work() -> list[Process]:
        return [member for member in members if len(member.lines) > 1]

    while members:
        wait_for(at_work, "one works")
        (leader,) = at_work()
        count = len(leader.lines)
        wait_for(lambda: len(leader.lines) > count, "it goes on")  # noqa: B023
        assert at_work() == [leader]
        leader.kill()
        members.remove(leader)


def test_what_one_process_drops_all_drop(channel_dir: Path, processes: Processes):
    members = [start(processes, EXAMPLES, "drop_cache.py") for _ in range(3)]
    for member in members:
        says(member, "ready")

    def check(load: int) -> None:
        for member in members:
            for _ in range(2):
                member.send("get news")
            line = f"news, load {load} of pid {member.pid}"
            wait_for(lambda: member.lines.count(line) >= 2, line)  # noqa: B023

    check(1)
    members[1].send("drop news")
    says(members[1], "dropped news")
    check(2)
    members = kill_broker(members)
    members[0].send("drop news")
    wait_for(lambda: members[0].lines[-1] == "dropped news", "it is dropped")
    check(3)


def test_workers_are_asked(channel_dir: Path, processes: Processes):
    workers = [start(processes, EXAMPLES, "ask.py", "work") for _ in range(3)]
    for worker in workers:
        says(worker, f"pid {worker.pid} works")
    for left in (workers, workers[1:]):
        *answers, last = run_program(EXAMPLES / "ask.py").splitlines()
        assert sorted(line.split(":")[0] for line in answers) == sorted(
            f"pid {worker.pid}" for worker in left
        )
        assert last.endswith(" tasks")
        workers[0].kill()


def test_each_job_is_done_although_a_worker_is_killed(channel_dir: Path, processes: Processes):
    workers = [start(processes, EXAMPLES, "jobs.py", "work") for _ in range(3)]
    for worker in workers:
        says(worker, f"pid {worker.pid} works")
    adding = start(processes, EXAMPLES, "jobs.py", "add", "40")
    wait_for(lambda: all(len(worker.lines) > 3 for worker in workers), "all do some")
    kill_broker(workers)
    says(adding, "40 jobs are done")
    assert adding.popen.wait(DEADLINE) == 0
    did = {
        line.split(" did ")[1].split()[0] for w in workers for line in w.lines if " did " in line
    }
    assert did == {str(number) for number in range(40)}


def test_who_asks_nobody_is_told(channel_dir: Path, processes: Processes):
    assert run_program(EXAMPLES / "ask.py") == "nobody works\n"
    adding = start(processes, EXAMPLES, "jobs.py", "add", "1")
    assert adding.popen.wait(DEADLINE) == 1
    assert adding.errors() == "nobody works\n"
