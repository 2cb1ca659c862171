"""The pulse: goes on while an event loop is blocked, stops when it is told to."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from open_channel.io.pulse import Pulse
from tests.processes import wait_for

INTERVAL = 0.01


def alive() -> bool:
    return True


def pulses() -> int:
    return sum(thread.name == "open-channel-pulse" for thread in threading.enumerate())


def test_it_beats_until_it_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    os.utime(path, (0, 0))
    descriptors = len(os.listdir("/proc/self/fd"))
    pulse = Pulse(str(path), INTERVAL, alive)
    seen = [path.stat().st_mtime_ns]
    for _ in range(3):
        wait_for(lambda: path.stat().st_mtime_ns > seen[-1], "it beats")
        seen.append(path.stat().st_mtime_ns)
    assert abs(path.stat().st_mtime - time.time()) < 5
    pulse.stop()
    pulse.stop()
    wait_for(lambda: pulses() == 0, "its thread has ended")
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_it_beats_for_its_own_file_only(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    pulse = Pulse(str(path), INTERVAL, alive)
    path.rename(tmp_path / "old")
    path.touch()
    os.utime(path, (0, 0))
    os.utime(tmp_path / "old", (0, 0))
    wait_for(lambda: (tmp_path / "old").stat().st_mtime > 0, "it beats")
    assert path.stat().st_mtime == 0
    pulse.stop()
    wait_for(lambda: pulses() == 0, "its thread has ended")


def test_a_deleted_file_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    pulse = Pulse(str(path), INTERVAL, alive)
    path.unlink()
    assert pulses() == 1
    pulse.stop()
    wait_for(lambda: pulses() == 0, "its thread has ended")


def test_it_ends_when_there_is_nothing_to_be_a_sign_of(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    asked: list[str] = []

    def lives() -> bool:
        asked.append(threading.current_thread().name)
        os.utime(path, (0, 0))
        return len(asked) < 3

    descriptors = len(os.listdir("/proc/self/fd"))
    pulse = Pulse(str(path), INTERVAL, lives)
    wait_for(lambda: pulses() == 0, "its thread has ended")
    assert asked == ["open-channel-pulse"] * 3
    assert path.stat().st_mtime == 0  # it did not beat after the last answer
    assert len(os.listdir("/proc/self/fd")) == descriptors
    pulse.stop()
