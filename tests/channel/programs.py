"""Programs of a test: source text, run in processes of their own, that speak by printing lines."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time

from tests.processes import DEADLINE, Process

__all__ = ["C_FORK", "Program", "Programs"]

C_FORK = """
import ctypes, os, signal, threading, time
from pathlib import Path

def switches():
    return [
        (path / "status").read_text().split("voluntary_ctxt_switches:")[1].split()[0]
        for path in Path("/proc/self/task").iterdir()
        if path.name != str(threading.get_native_id())
    ]

def fork():
    # When no thread is on its way to the interpreter's lock: a child would wait for it.
    before = None
    while (now := switches()) != before:
        before = now
        time.sleep(0.05)
    child = ctypes.PyDLL(None).fork()
    if not child:
        signal.alarm(15)
    return child
"""
"""The begin of a program: ``fork()`` forks as C code does, without Python's hooks."""


class Program(Process):
    """One program, and the lines that were not looked at yet."""

    def __init__(self, source: str, *arguments: str) -> None:
        super().__init__([sys.executable, "-u", "-c", textwrap.dedent(source), *arguments])
        self._seen = 0

    def line(self) -> str:
        """Return the next line that it prints; fail when it has ended or says nothing."""
        end = time.monotonic() + DEADLINE
        while len(self.lines) == self._seen:
            silent = self.popen.poll() is not None and not self._reader.is_alive()
            if (silent and len(self.lines) == self._seen) or time.monotonic() > end:
                raise AssertionError(f"no line from pid {self.pid}\n{self.errors()}")
            time.sleep(0.001)
        self._seen += 1
        return self.lines[self._seen - 1]

    async def next_line(self) -> str:
        """``line()`` without blocking the event loop."""
        return await asyncio.to_thread(self.line)

    def wait_end(self) -> int:
        """Wait until it ends by itself; return its exit status."""
        status = self.popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        return status


class Programs:
    """Starts programs and ends them all."""

    def __init__(self) -> None:
        self._all: list[Program] = []

    def __call__(self, source: str, *arguments: str) -> Program:
        program = Program(source, *arguments)
        self._all.append(program)
        return program

    def end(self) -> None:
        for program in self._all:
            program.end()
