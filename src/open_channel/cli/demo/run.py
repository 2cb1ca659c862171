"""The demonstration as the command runs it: its place, its signals, and its exit code."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from typing import TYPE_CHECKING

from open_channel.cli.demo.crew import Crew, DemoFailed
from open_channel.cli.demo.state import Demo
from open_channel.cli.demo.supervisor import Supervisor
from open_channel.io.directory import ChannelFiles, resolve, secure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from open_channel.cli.demo.play import Play
    from open_channel.cli.demo.state import Settings
    from open_channel.cli.demo.view import View

__all__ = ["run_demo"]

_INTERRUPTED = 130  # the exit code after Ctrl-C


def run_demo(settings: Settings, play: Play, view_of: Callable[[Demo], View]) -> int:
    """Run the demonstration and show it; returns the exit code.

    That is 0 when all that was promised was kept, 1 when not, and 130 when Ctrl-C has ended it
    early. Raises DemoFailed when it could not go on.
    """
    name = f"demo-{os.getpid()}-{time.monotonic_ns()}"
    with _signals() as signals, _place(settings, name) as files:
        demo = Demo(settings, play, files.directory)
        with Crew(play.name, name, files.directory) as crew, view_of(demo) as view:
            supervisor = Supervisor(demo, crew, view, files, lambda: signals.interrupted)
            try:
                supervisor.start()
                supervisor.disturb()
                supervisor.finish()
            except DemoFailed as error:
                words = crew.last_words()
                raise DemoFailed(reason=f"{error}\n{words}" if words else str(error)) from None
            except KeyboardInterrupt:
                return _INTERRUPTED
            view.close(demo, crew.last_words())
        if signals.interrupted:
            return _INTERRUPTED
        return 0 if play.clean else 1


@contextlib.contextmanager
def _place(settings: Settings, name: str) -> Generator[ChannelFiles]:
    """The demonstration's files, removed at the end: a directory of its own, or its own names."""
    if settings.directory is not None:
        files = ChannelFiles.of(resolve(settings.directory).path, name)
        secure(files.directory)
        try:
            yield files
        finally:
            for file in os.listdir(files.directory):
                if file.startswith(f"{files.key}."):
                    os.unlink(files.path(file))
        return
    # Not where $TMPDIR says: a socket's path has room for some 60 bytes of it.
    directory = tempfile.mkdtemp(prefix="open-channel-", dir="/tmp")
    try:
        yield ChannelFiles.of(directory, name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Signals:
    """Ctrl-C ends the demonstration early, with its table; a second one, SIGTERM and SIGHUP at
    once. All of them leave no process and no file behind.
    """

    def __init__(self) -> None:
        self.interrupted = False

    def interrupt(self, number: int, frame: object) -> None:
        # Not raised here: between a message and its reader it would take the message away.
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True

    def end(self, number: int, frame: object) -> None:
        raise SystemExit(128 + number)


@contextlib.contextmanager
def _signals() -> Generator[_Signals]:
    signals = _Signals()
    handlers = {
        signal.SIGINT: signals.interrupt,
        signal.SIGTERM: signals.end,
        signal.SIGHUP: signals.end,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield signals
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
