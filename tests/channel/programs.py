"""Programs of a test: source text, run in processes of their own, that speak by printing lines."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time

from tests.processes import DEADLINE, Process

__all__ = ["Program", "Programs"]


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
