"""How a command becomes a member for a while, and leaves in order whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import typer

from open_channel import open_channel
from open_channel.cli.output import fail
from open_channel.io.directory import ChannelFiles, check_name, secure
from open_channel.io.presence import list_members

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from open_channel import Channel
    from open_channel.bus.members import Member
    from open_channel.io.directory import Resolved

__all__ = ["joined", "others", "run", "visiting"]

_LABELS = {"program": "open-channel"}


def run(command: Coroutine[Any, Any, None], *, ends_so: bool = False) -> None:
    """Run a command; SIGINT, SIGTERM and SIGHUP cancel it, so that it leaves its channel in order.

    The exit code is 128 and the signal's number then; with ``ends_so`` Ctrl-C is how one leaves,
    and it is 0.
    """
    number = asyncio.run(_run(command))
    if number is not None and not (ends_so and number == signal.SIGINT):
        raise typer.Exit(128 + number)


async def _run(command: Coroutine[Any, Any, None]) -> int | None:
    """Returns the number of the signal that has cancelled it; None when it has come to its end."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(command)
    received: list[int] = []

    def cancel(number: int) -> None:
        received.append(number)
        task.cancel()  # the second time: out of the leaving

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, cancel, number)
    try:
        await task
    except asyncio.CancelledError:
        if not received:
            raise
    return received[0] if received else None


@contextlib.asynccontextmanager
async def joined(at: Resolved, name: str) -> AsyncGenerator[Channel]:
    """A member like all others: it hosts the channel where nobody else does.

    Raises what opening a channel raises.
    """
    async with open_channel(name, directory=at.path, labels=_LABELS) as channel:
        yield channel


@contextlib.asynccontextmanager
async def visiting(at: Resolved, name: str) -> AsyncGenerator[Channel]:
    """A member that never hosts: stopped with Ctrl-Z, it would stop a channel that it only visits.

    Raises typer.Exit when nobody else is there, and what opening a channel raises.
    """
    _check_somebody(at, name)
    async with open_channel(name, directory=at.path, labels=_LABELS, hosts=False) as channel:
        if not others(channel):
            raise _nobody(at, name)
        yield channel


def _check_somebody(at: Resolved, name: str) -> None:
    """Look at the files: to join would make some, and to wait for a host takes seconds."""
    files = ChannelFiles.of(at.path, check_name(name))
    if os.path.lexists(at.path):
        secure(at.path)
    if not any(member.bus for member in list_members(files)):
        raise _nobody(at, name)


def _nobody(at: Resolved, name: str) -> typer.Exit:
    return fail(f"nobody is on the bus of channel {name!r} in {at.path} ({at.why})")


def others(channel: Channel) -> list[Member]:
    """The members but for this command itself."""
    return [member for member in channel.members if member.id != channel.member]
