"""The demonstration, as its users run it: real processes, real kills."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from open_channel.cli.demo.bus.play import BusPlay
from open_channel.cli.demo.play import CANDIDATE, Play
from open_channel.cli.demo.sockets.play import SocketPlay
from open_channel.cli.demo.state import Demo, Settings, Takeover
from open_channel.cli.demo.view import view_of

DEADLINE = 45.0

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give a function that starts the demonstration; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str, **more: Any) -> subprocess.Popen[str]:
        workers = () if "--bus" in options else ("--workers", "3")
        command = [sys.executable, "-m", "open_channel", "demo", *workers, *options]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, **{**pipes, **more}))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def rows(output: str) -> dict[str, str]:
    """Return what the closing table says: the value after each label."""
    found = re.findall(r"^(\w+(?: \w+)*)  +([\d,.]+)", output, re.MULTILINE)
    return {label: value.replace(",", "") for label, value in found}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def first_second(process: subprocess.Popen[str]) -> Path:
    """Wait until the processes talk; return the demonstration's directory."""
    assert process.stdout is not None
    heading = process.stdout.readline()
    assert "messages/s" in process.stdout.readline()
    return Path(heading.rpartition("; in ")[2].strip())


def children(process: subprocess.Popen[str]) -> list[int]:
    content = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii")
    return [int(pid) for pid in content.split()]


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_is_lost(start: Start):
    process = start("--plain", "--seconds", "2.5", "--every", "0.7")
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, ""), output
    table = rows(output)
    assert int(table["sent"]) > 0
    assert table["received"] == table["sent"]
    assert (table["lost"], table["out of order"]) == ("0", "0")
    assert int(table["takeovers"]) >= 1
    assert "Nothing was lost" in output
    assert not Path(output.splitlines()[0].rpartition("; in ")[2]).exists()


def test_nothing_is_lost_on_the_bus(start: Start):
    process = start("--bus", "--plain", "--seconds", "2.5", "--every", "0.7")
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, ""), output
    assert output.startswith("2 publishers, 2 subscribers, 2 processes that stand for host")
    table = rows(output)
    assert int(table["published"]) > 0
    assert int(table["delivered"]) == 2 * int(table["published"])
    assert (table["lost"], table["duplicated"], table["out of order"]) == ("0", "0", "0")
    assert int(table["takeovers"]) >= 1
    assert 0 < float(table["median pause"]) <= float(table["worst pause"])
    assert "Each subscriber had every message, once and in order." in output
    assert not Path(output.splitlines()[0].rpartition("; in ")[2]).exists()


@pytest.mark.parametrize("play", [(), ("--bus",)])
def test_as_json(start: Start, play: tuple[str, ...]):
    output, errors = start(*play, "--json", "--seconds", "2", "--every", "0.4").communicate(
        timeout=DEADLINE
    )
    document = json.loads(output)
    assert (errors, document["clean"], document["lost"], document["errors"]) == ("", True, 0, "")
    first = document["takeovers"][0]
    assert first["after"] >= 0.4
    assert first["host"] != first["killed"] > 0
    assert document["worst_pause"] >= document["median_pause"] > 0


def test_too_few_for_the_bus(start: Start):
    process = start("--bus", "--workers", "3")
    assert "--workers" in process.communicate(timeout=DEADLINE)[1]
    assert process.returncode == 2


def test_nobody_reads_any_more(start: Start):
    process = start("--plain", "--seconds", "60", "--every", "60")
    directory = first_second(process)
    process.stdout.close()
    process.stdout = None
    assert process.communicate(timeout=DEADLINE)[1] == ""
    assert process.returncode == 141  # not 0: that would say that nothing was lost
    assert not directory.exists()


def test_in_a_given_directory(start: Start, channel_dir: Path):
    (channel_dir / "other").touch()
    options = ("--plain", "--seconds", "1", "--every", "0.4", "--directory", str(channel_dir))
    output, errors = start(*options).communicate(timeout=DEADLINE)
    assert errors == ""
    assert int(rows(output)["takeovers"]) >= 1
    assert [path.name for path in channel_dir.iterdir()] == ["other"]


def test_an_insecure_directory_is_refused(start: Start, channel_dir: Path):
    channel_dir.chmod(0o755)
    process = start("--directory", str(channel_dir))
    assert "lets others in" in process.communicate(timeout=DEADLINE)[1]
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("play", "verdict"),
    [((), b"Nothing was lost"), (("--bus",), b"Each subscriber had every message")],
)
def test_on_a_terminal(start: Start, play: tuple[str, ...], verdict: bytes):
    master, slave = pty.openpty()
    process = start(*play, "--seconds", "1.5", "--every", "0.5", stdout=slave, text=False)
    os.close(slave)
    output = b""
    try:
        while chunk := os.read(master, 4096):
            output += chunk
    except OSError:  # Linux's end of a terminal
        pass
    os.close(master)
    assert process.wait(DEADLINE) == 0, output
    for word in (b"messages/s", b"next host", b"worst pause", verdict):
        assert word in output


@pytest.mark.parametrize(
    ("number", "code", "table"), [(signal.SIGINT, 130, True), (signal.SIGTERM, 143, False)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_ends_all(start: Start, number: int, code: int, table: bool):
    process = start("--plain", "--seconds", "60", "--every", "0.3")
    directory = first_second(process)
    pids = children(process)
    assert len(pids) >= 3
    process.send_signal(number)
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (code, "")
    assert ("Nothing was lost" in output) == table
    assert not any(lives(pid) for pid in pids)
    assert not directory.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_outlives_a_killed_supervisor(start: Start):
    process = start("--plain", "--seconds", "60", "--every", "60")
    directory = first_second(process)
    pids = children(process)
    process.kill()
    until(lambda: not any(lives(pid) for pid in pids))
    for path in [*directory.iterdir(), directory]:
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_dies_by_itself_is_a_failure(start: Start):
    process = start("--plain", "--seconds", "60", "--every", "60")
    first_second(process)
    os.kill(children(process)[-1], signal.SIGKILL)
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "ended by itself (-9)" in errors
    assert "Nothing was lost" not in output


# --- what is said in the end ----------------------------------------------------------------------


def closing(play: Play, capsys: pytest.CaptureFixture[str]) -> str:
    demo = Demo(Settings(1.0, 1.0), play, "/nowhere")
    with view_of(demo, plain=True) as view:
        view.close(demo, "a complaint")
    return capsys.readouterr().out


def sockets(**counts: int) -> SocketPlay:
    play = SocketPlay(3)
    play.counts = {1: counts}
    return play


def bus(published: int, *subscribers: dict[str, int]) -> BusPlay:
    play = BusPlay(6)
    play.counts = {1: {"published": published}, **dict(enumerate(subscribers, 2))}
    return play


def test_a_loss_is_said(capsys: pytest.CaptureFixture[str]):
    output = closing(sockets(sent=5, received=4, unmarked=1), capsys)
    assert "What was promised was not kept." in output
    assert "a complaint" in output
    assert (rows(output)["lost"], rows(output)["unmarked"]) == ("1", "1")


def test_a_loss_on_the_bus_is_said(capsys: pytest.CaptureFixture[str]):
    output = closing(bus(5, {"delivered": 5}, {"delivered": 3, "duplicated": 2}), capsys)
    assert "What was promised was not kept." in output
    table = rows(output)
    assert (table["published"], table["delivered"], table["lost"]) == ("5", "8", "2")
    assert table["duplicated"] == "2"


@pytest.mark.parametrize(
    ("play", "clean"),
    [
        (sockets(sent=5, received=5, redelivered=2), True),
        (sockets(), False),
        (sockets(sent=5, received=4), False),
        (sockets(sent=5, received=5, misordered=1), False),
        (sockets(sent=5, received=5, redelivered=1, unmarked=1), False),
        (bus(5, {"delivered": 5}, {"delivered": 5}), True),
        (bus(0, {}, {}), False),
        (bus(5, {"delivered": 5}, {"delivered": 4}), False),
        (bus(5, {"delivered": 5}), False),
        (bus(5, {"delivered": 5}, {"delivered": 5, "duplicated": 1}), False),
        (bus(5, {"delivered": 5}, {"delivered": 5, "misordered": 1}), False),
    ],
)
def test_what_counts_as_clean(play: Play, clean: bool):
    assert play.clean is clean


def test_a_pause_lasts_until_the_last_one_hears():
    takeover = Takeover(after=1.0, killed=1, at=1_000_000, waiting={7})
    assert takeover.pause is None
    takeover.waiting.clear()
    takeover.heard = 6_000_000
    assert takeover.pause == pytest.approx(0.005)


def cast(play: Play) -> dict[str, int]:
    return {role: number for stage in play.stages for role, number in stage.items()}


@pytest.mark.parametrize(("workers", "writers"), [(3, 1), (4, 2), (5, 2), (9, 4)])
def test_who_takes_part(workers: int, writers: int):
    play = SocketPlay(workers)
    assert cast(play) == {"writer": writers, CANDIDATE: workers - writers}
    assert play.candidates >= 2


@pytest.mark.parametrize(
    ("workers", "publishers", "subscribers"), [(4, 1, 1), (5, 1, 2), (6, 2, 2), (9, 3, 3)]
)
def test_who_takes_part_on_the_bus(workers: int, publishers: int, subscribers: int):
    play = BusPlay(workers)
    candidates = workers - publishers - subscribers
    assert cast(play) == {
        "publisher": publishers,
        "subscriber": subscribers,
        CANDIDATE: candidates,
    }
    assert play.candidates == candidates >= 2
