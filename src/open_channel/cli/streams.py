"""The standard streams: where they are closed, and where nobody reads what is printed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

__all__ = ["end_output", "escape_what_cannot_be_encoded", "replace_closed", "while_read"]


def replace_closed() -> None:
    """Put something in the place of each standard stream that is closed.

    The next file that is opened would get its number, be it a lock file or a socket, and what is
    meant for the stream would go there. Standard input stays None, and its number cannot be read;
    standard output is a pipe that nobody reads; what goes to standard error is thrown away.
    """
    if sys.stdin is None:
        _put(os.open(os.devnull, os.O_WRONLY), 0)
    if sys.stdout is None:
        reader, writer = os.pipe()
        os.close(reader)
        _put(writer, 1)
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 (it stays open)
    if sys.stderr is None:
        _put(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = open(2, "w", encoding="utf-8")  # noqa: SIM115


def _put(descriptor: int, number: int) -> None:
    """Give an open file this number, for the processes that are started too."""
    if descriptor == number:
        os.set_inheritable(number, True)
    else:
        os.dup2(descriptor, number)
        os.close(descriptor)


def escape_what_cannot_be_encoded() -> None:
    """Print it as standard error does: names have any characters, whatever the locale knows."""
    stdout: Any = sys.stdout
    with contextlib.suppress(AttributeError):  # somebody has put something else in its place
        stdout.reconfigure(errors="backslashreplace")


def end_output() -> None:
    """Flush standard output for the last time; what nobody reads any more is thrown away.

    Python would complain of that at its end, and change the exit code.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        pass  # such as a full disk: Python tells of it at its end


@contextlib.asynccontextmanager
async def while_read() -> AsyncGenerator[None]:
    """End what is done in it, with BrokenPipeError, when nobody reads standard output any more.

    Where the system cannot tell, only what is printed next finds out.
    """
    scope = asyncio.timeout(None)
    try:
        async with scope:
            with _watched(lambda: scope.reschedule(0.0)):
                yield
    except TimeoutError:
        if not scope.expired():
            raise
        raise BrokenPipeError from None


@contextlib.contextmanager
def _watched(unread: Callable[[], None]) -> Generator[None]:
    """Call ``unread`` once, as soon as standard output is a pipe or socket without a reader."""
    mode = os.fstat(sys.stdout.fileno()).st_mode
    # A terminal that hangs up sends a signal; a file is always read, and cannot be watched.
    if sys.platform != "linux" or not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        yield
        return
    loop = asyncio.get_running_loop()

    def tell() -> None:
        loop.remove_reader(watch)  # or it tells in each turn of the loop
        unread()

    # One that asks for nothing is told of errors and hang-ups alone. The loop's own would ask
    # whether there is something to read, which a socket says as long as there is.
    with select.epoll() as watch:
        watch.register(sys.stdout.fileno(), 0)
        loop.add_reader(watch, tell)
        try:
            yield
        finally:
            loop.remove_reader(watch)
