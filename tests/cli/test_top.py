"""`top`, over real processes that publish, stop, die and take over."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from open_channel.bus.members import Member, Stats
from open_channel.cli.bus.top import Picture, Traffic, picture_lines
from open_channel.sync import Channel, open_channel
from tests.processes import DEADLINE, Process, Processes, processes, wait_for

__all__ = ["processes"]  # the fixture

Events = list[dict[str, Any]]


@pytest.fixture
def shop(channel_dir: Path) -> Iterator[Channel]:
    """Give a member of a channel, its host."""
    with open_channel("shop", labels={"role": "web"}) as channel:
        yield channel


def top(processes: Processes) -> Process:
    process = processes("-m", "open_channel", "top", "shop", "--json")
    process.expect("host")
    return process


def member_of(event: dict[str, Any], pid: int) -> dict[str, Any]:
    return next((member for member in event["members"] if member["pid"] == pid), {})


def test_rates_and_members(shop: Channel, processes: Processes):
    watching = top(processes)

    def published(events: Events) -> bool:
        shop.publish("orders.eu", "x")
        shop.publish("orders.us", "x")
        return set(events[-1]["topics"]) == {"orders.eu", "orders.us"}

    wait_for(lambda: published(watching.events), "both topics")
    last = watching.events[-1]
    assert (last["channel"], last["host"], last["takeovers"]) == ("shop", shop.member, 0)
    assert last["rate"] == pytest.approx(sum(last["topics"].values()), abs=0.2)
    assert last["messages"] > 0
    (mine,) = last["members"]
    assert (mine["id"], mine["pid"], mine["hosting"]) == (shop.member, os.getpid(), ["broker"])
    assert (mine["labels"], mine["left_out"], mine["away"]) == ({"role": "web"}, False, False)
    watching.signal(signal.SIGINT)
    assert watching.popen.wait(DEADLINE) == 0
    assert watching.errors() == ""


def test_a_stopped_subscriber_has_a_queue(shop: Channel, processes: Processes):
    sub = processes("-m", "open_channel", "sub", "shop", "a")
    wait_for(lambda: "subscribed to" in sub.errors(), "the subscription")
    sub.signal(signal.SIGSTOP)
    shop.publish("a", bytes(1_000_000), confirm=True)  # returns when it is left out
    watching = top(processes)
    watching.wait(lambda events: member_of(events[-1], sub.pid).get("left_out"), "left out")
    assert member_of(watching.events[-1], sub.pid)["queued"] >= 1_000_000
    sub.signal(signal.SIGCONT)
    watching.wait(lambda events: not member_of(events[-1], sub.pid)["left_out"], "in touch again")


def test_a_takeover_is_seen_and_none_is_of_its_own(shop: Channel, processes: Processes):
    watching = top(processes)
    shop.close()
    watching.wait(lambda events: events[-1]["host"] is None, "no host")
    assert watching.events[-1]["members"] == []
    with open_channel("shop") as other:
        last = watching.wait(
            lambda events: events[-1]["host"] == other.member and events[-1], "the next host"
        )
        assert last["epoch"] == 2
        assert last["takeovers"] == 1


def test_a_line_a_second(shop: Channel):
    arguments = ["top", "shop", "--plain", "--seconds", "1.2"]
    done = subprocess.run(
        [sys.executable, "-m", "open_channel", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 1 <= len(done.stdout.splitlines()) <= 2
    assert f"members 1  host pid {os.getpid()}  epoch 1  takeovers 0  0 messages/s" in done.stdout


def test_on_a_terminal(shop: Channel):
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "open_channel", "top", "shop", "--seconds", "1.5"],
        stdout=slave,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(slave)
        output = b""
        try:
            while chunk := os.read(master, 4096):
                output += chunk
        except OSError:  # Linux's end of a terminal
            pass
        os.close(master)
        assert process.wait(DEADLINE) == 0
        assert process.stderr.read() == b""
    for word in (b"shop", b"takeovers", b"bytes queued", b"role=web", b"in touch"):
        assert word in output


# --- what is shown --------------------------------------------------------------------------------

STATS = Stats(3, 1, 2, 0, 0, 0, 0, 0, 5, 0, None)


def picture(members: int = 1, topics: int = 1) -> Picture:
    everybody = [
        Member(f"{number:032x}", 100 + number, frozenset(), {}) for number in range(members)
    ]
    rates = [(f"t{number}", 10.0) for number in range(topics)]
    figures = {"queued": 7, "left_out": False, "away": True, "subscriptions": 1, "jobs": 0}
    broker = {"dropped": 4, "members": {one.id: figures for one in everybody}}
    return Picture("shop", 5.0, everybody, STATS, rates, 50, broker)


def shown(of: Picture, height: int) -> list[str]:
    out = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with out.file:
        out.print(picture_lines(of, height))
    return out.export_text().splitlines()


@pytest.mark.parametrize("height", [24, 40])
@pytest.mark.parametrize(("members", "topics"), [(1, 1), (200, 1), (1, 200), (200, 200)])
def test_it_fits_on_the_screen(members: int, topics: int, height: int):
    lines = shown(picture(members, topics), height)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert "+" in text or (members, topics) == (1, 1)
    for word in ("nobody", "4 messages dropped", "5 missed here", "away", "t0"):
        assert word in text


def test_no_members_and_no_topics():
    lines = shown(Picture("shop", 5.0, [], STATS, [], 0, {}), 24)
    assert len(lines) == 6


@pytest.fixture
def traffic() -> Callable[[list[str]], Traffic]:
    """Give a function that counts a message of each topic."""

    def count(topics: list[str]) -> Traffic:
        counted = Traffic(10.0)
        for topic in topics:
            counted.count(topic, 2)
        return counted

    return count


def test_rates_are_over_the_time_since_the_last(traffic: Callable[[list[str]], Traffic]):
    counted = traffic(["a", "b", "b"])
    assert counted.rates(12.0) == [("b", 2.0), ("a", 1.0)]
    assert counted.rates(13.0) == []
    assert counted.total == 6


def test_topics_without_end_are_counted_together(traffic: Callable[[list[str]], Traffic]):
    counted = traffic([f"t{number}" for number in range(10_100)])
    rates = dict(counted.rates(11.0))
    assert len(rates) == 10_001
    assert rates["(all others)"] == 200.0
