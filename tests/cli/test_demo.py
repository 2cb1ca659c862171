"""The demonstration, as its users run it: real processes, real kills."""

from __future__ import annotations

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

from open_channel.cli.demo.run import Demo, Settings, Takeover, Totals
from open_channel.cli.demo.view import view_of

DEADLINE = 45.0

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give a function that starts the demonstration; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "open_channel", "demo", "--workers", "3", *options]
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
    process = start("--plain", "--seconds", "4", "--every", "0.7")
    output, errors = process.communicate(timeout=DEADLINE)
    assert (process.returncode, errors) == (0, ""), output
    table = rows(output)
    assert int(table["sent"]) > 0
    assert table["received"] == table["sent"]
    assert (table["lost"], table["out of order"]) == ("0", "0")
    assert int(table["takeovers"]) >= 2
    assert "Nothing was lost" in output
    assert not Path(output.splitlines()[0].rpartition("; in ")[2]).exists()


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


def test_on_a_terminal(start: Start):
    master, slave = pty.openpty()
    process = start("--seconds", "1.5", "--every", "0.5", stdout=slave, text=False)
    os.close(slave)
    output = b""
    try:
        while chunk := os.read(master, 4096):
            output += chunk
    except OSError:  # Linux's end of a terminal
        pass
    os.close(master)
    assert process.wait(DEADLINE) == 0, output
    for word in (b"messages/s", b"next host", b"worst pause", b"Nothing was lost"):
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


def closing(totals: Totals, capsys: pytest.CaptureFixture[str]) -> str:
    demo = Demo(Settings(3, 1.0, 1.0), "/nowhere", counts={1: totals})
    with view_of(demo, plain=True) as view:
        view.close(demo, "a complaint")
    return capsys.readouterr().out


def test_a_loss_is_said(capsys: pytest.CaptureFixture[str]):
    output = closing(Totals(sent=5, received=4, unmarked=1), capsys)
    assert "What was promised was not kept." in output
    assert "a complaint" in output
    assert (rows(output)["lost"], rows(output)["unmarked"]) == ("1", "1")


@pytest.mark.parametrize(
    ("totals", "clean"),
    [
        (Totals(sent=5, received=5, redelivered=2), True),
        (Totals(), False),
        (Totals(sent=5, received=4), False),
        (Totals(sent=5, received=5, misordered=1), False),
        (Totals(sent=5, received=5, redelivered=1, unmarked=1), False),
    ],
)
def test_what_counts_as_clean(totals: Totals, clean: bool):
    assert totals.clean is clean


def test_a_pause_lasts_until_the_last_writer_hears():
    takeover = Takeover(after=1.0, killed=1, at=1_000_000, waiting={7})
    assert takeover.pause is None
    takeover.waiting.clear()
    takeover.heard = 6_000_000
    assert takeover.pause == pytest.approx(0.005)


@pytest.mark.parametrize(("workers", "writers"), [(3, 1), (4, 2), (5, 2), (9, 4)])
def test_two_at_least_stand_for_host(workers: int, writers: int):
    settings = Settings(workers, 1.0, 1.0)
    assert settings.writers == writers
    assert settings.workers - settings.writers >= 2
