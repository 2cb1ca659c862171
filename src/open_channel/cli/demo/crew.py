"""The demonstration's processes, seen from their supervisor: started, heard, ended by their ids."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any

from open_channel.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Child", "Crew", "DemoFailed"]

_END = 10.0  # seconds that a killed process may take to be gone
_TAIL = 2000  # bytes of what the workers wrote to standard error that are shown

Message = dict[str, Any]


class DemoFailed(ChannelError):
    """The demonstration could not go on: a process died by itself, or nothing happened in time."""


class Child:
    """One process."""

    __slots__ = ("_partial", "killed", "pid", "process", "role")

    def __init__(self, role: str, process: subprocess.Popen[bytes]) -> None:
        self.role = role
        self.process = process
        self.pid = process.pid
        self.killed = False
        """Whether the supervisor has killed it."""
        self._partial = b""

    def fetch(self) -> list[Message] | None:
        """What it has said since the last time; None when it has ended."""
        assert self.process.stdout is not None
        chunk = os.read(self.process.stdout.fileno(), 1 << 16)
        if not chunk:
            return None
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> int:
        """SIGKILL; returns the time just before it, in ns of the clock that all share."""
        self.killed = True
        at = time.monotonic_ns()
        self.process.send_signal(signal.SIGKILL)
        return at

    def stop(self, sent: int) -> None:
        """Tell it to finish, and how much was sent by all; harmless when it has ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"stop %d\n" % sent)

    def close(self) -> None:
        """Reap it, and close what leads to it."""
        self.process.wait(_END)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Crew:
    """All processes that run now; at the end of the ``with`` block none does."""

    def __init__(self, play: str, name: str, directory: str) -> None:
        self._script = (sys.executable, "-m", "open_channel.cli.demo.worker", play)
        self._arguments = (name, directory)
        self._selector = selectors.DefaultSelector()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.children: dict[int, Child] = {}

    def __enter__(self) -> Crew:
        """Start none yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill all, then wait for each."""
        for child in self.children.values():
            child.kill()
        for child in list(self.children.values()):
            self._forget(child)
        self._selector.close()
        self._errors.close()

    def spawn(self, role: str) -> Child:
        """Start a process of its own, with nothing inherited from this one but its environment."""
        process = subprocess.Popen(
            [*self._script, role, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
            process_group=0,  # Ctrl-C in the terminal is for the supervisor
        )
        child = self.children[process.pid] = Child(role, process)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, child)
        return child

    def hear(self, timeout: float) -> Iterator[tuple[Child, Message]]:
        """What the processes say, until nothing more comes or ``timeout`` seconds have passed.

        Raises DemoFailed when a process has ended that nobody had killed.
        """
        for key, _ in self._selector.select(max(0.0, timeout)):
            child: Child = key.data
            messages = child.fetch()
            if messages is None:
                self._forget(child)
                if not child.killed:
                    code = child.process.returncode
                    raise DemoFailed(reason=f"{child.role} {child.pid} ended by itself ({code})")
                continue
            for message in messages:
                yield child, message

    def _forget(self, child: Child) -> None:
        assert child.process.stdout is not None
        self._selector.unregister(child.process.stdout)
        del self.children[child.pid]
        child.close()

    def last_words(self) -> str:
        """The end of what the processes wrote to standard error."""
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL))
        return self._errors.read().decode(errors="replace").strip()
