"""Processes of a test: started as real ones, read line by line, and ended whatever the test does.

Each leads a process group of its own, so that what it starts ends with it. A line of its output
that is JSON is an event, for which a test waits with a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Process", "Processes", "delete_directory", "processes", "wait_for"]

DEADLINE = 20.0  # seconds for what takes milliseconds, on a machine that is busy otherwise

Event = dict[str, Any]


def wait_for(condition: Callable[[], Any], what: str, timeout: float = DEADLINE) -> Any:
    """Look again and again until ``condition()`` is true; return what it returned."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.005)
    return result


def delete_directory(directory: Path) -> None:
    """Delete a directory in which somebody may make a file at this very moment."""
    while True:
        try:
            shutil.rmtree(directory)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
        else:
            return


def forking() -> dict[str, str]:
    """The environment of a program that forks.

    Python 3.12 and newer warn of every fork of a process that has threads, which a host has: that
    is what these programs test.
    """
    return {**os.environ, "PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}


class Process:
    """One process, its events and its error output."""

    def __init__(self, arguments: list[str], **options: Any) -> None:
        if any("fork" in argument for argument in arguments):
            options.setdefault("env", forking())
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (end() closes it)
        self.popen = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            **options,
        )
        self.pid = self.popen.pid
        self.events: list[Event] = []
        self.lines: list[str] = []
        self._ended = False
        self._came = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for raw in self.popen.stdout:
            line = raw.decode().rstrip()
            with self._came:
                if line.startswith("{"):
                    self.events.append({**json.loads(line), "at": time.monotonic()})
                else:
                    self.lines.append(line)
                self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def wait(
        self, condition: Callable[[list[Event]], Any], what: str, timeout: float = DEADLINE
    ) -> Any:
        """Wait until the events so far fulfil a condition; return what it returned.

        Fails at once when the process has ended without.
        """
        with self._came:
            self._came.wait_for(lambda: condition(self.events) or self._ended, timeout)
            result = condition(self.events)
        if not result:
            last = self.events[-5:]
            raise AssertionError(
                f"pid {self.pid}: not within {timeout} s: {what}; last {last}\n{self.errors()}"
            )
        return result

    def expect(self, key: str, after: int = 0, timeout: float = DEADLINE) -> Event:
        """The first event with this key that is not among the ``after`` first ones."""

        def found(events: list[Event]) -> Event | None:
            return next((event for event in events[after:] if key in event), None)

        event: Event = self.wait(found, f"an event {key!r}", timeout)
        return event

    def send(self, line: str) -> None:
        self.popen.stdin.write(line.encode() + b"\n")
        self.popen.stdin.flush()

    def errors(self) -> str:
        """What it wrote to its standard error."""
        return os.pread(self._stderr.fileno(), 1 << 20, 0).decode(errors="replace")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL this process alone, and wait for its end."""
        self.popen.kill()
        self.popen.wait(DEADLINE)

    def join(self) -> None:
        """Wait until all that an ended process has written is read."""
        self._reader.join(DEADLINE)

    def end(self) -> None:
        """End the whole group, stopped or not."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(DEADLINE)
        with contextlib.suppress(OSError):
            self.popen.stdin.close()
        self._reader.join(DEADLINE)
        self.popen.stdout.close()
        self._stderr.close()


class Processes:
    """Starts processes and ends them all."""

    def __init__(self) -> None:
        self._all: list[Process] = []

    def __call__(self, *arguments: object, **options: Any) -> Process:
        """Start a Python process with these arguments."""
        return self.adopt(Process([sys.executable, *map(str, arguments)], **options))

    def adopt(self, process: Process) -> Process:
        self._all.append(process)
        return process

    def end(self) -> None:
        for process in self._all:
            process.end()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Start Python processes that do not outlive the test."""
    started = Processes()
    try:
        yield started
    finally:
        started.end()
