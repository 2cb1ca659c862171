"""The commands of ``open-channel``: their names, options and help texts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import open_channel
from open_channel.cli.bus.commands import bus_commands
from open_channel.cli.options import Directory, Json, Name, where
from open_channel.cli.output import refusals

__all__ = ["app"]

_NOT_SEEN = 141  # nobody reads any more what came of it: as a shell says of SIGPIPE

app = typer.Typer(
    help="Processes of one machine talk over a channel by name. See it work, and look into it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"open-channel {open_channel.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """What all commands share."""


@app.command()
def demo(
    bus: Annotated[
        bool, typer.Option("--bus", help="Publish and subscribe instead of writing to sockets.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=3,
            help="How many processes; two of them, or more, stand for host.",
            show_default="4; 6 with --bus",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long they talk.")] = 10.0,
    every: Annotated[
        float, typer.Option(min=0.05, help="Seconds from one kill of the host to the next.")
    ] = 1.0,
    plain: Annotated[
        bool, typer.Option("--plain", help="One line a second instead of the live display.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the closing table as one JSON document.")
    ] = False,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-d",
            metavar="DIR",
            help="Where the demo's channel lives; a new directory of its own by default.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """See it work: processes talk at full speed while their host is killed again and again.

    Some processes write numbered messages and check that each comes back from the host's echo;
    they are never killed. The others stand for host: whoever hosts is killed (SIGKILL), another
    takes over, and a new process takes the place of the dead one. At the end the writers count
    what was lost. The exit code is 0 only if nothing was, and all came back in order.

    With --bus some processes publish numbered messages, and others subscribe and check that each
    publisher's arrive once and in order.
    """
    from open_channel.cli.demo.bus.play import BusPlay
    from open_channel.cli.demo.run import run_demo
    from open_channel.cli.demo.sockets.play import SocketPlay
    from open_channel.cli.demo.state import Settings
    from open_channel.cli.demo.view import view_of

    workers = workers or (6 if bus else 4)
    if bus and workers < 4:
        raise typer.BadParameter("4 at least with --bus", param_hint="--workers")
    play = BusPlay(workers) if bus else SocketPlay(workers)
    code = _NOT_SEEN
    with refusals():
        show = partial(view_of, plain=plain, as_json=as_json)
        code = run_demo(Settings(seconds, every, directory), play, show)
    raise typer.Exit(code)


@app.command()
def ls(directory: Directory = None, as_json: Json = False) -> None:
    """List the channels: who hosts each, since when, and how many members it has."""
    from open_channel.cli.channels import show_channels

    with refusals():
        show_channels(where(directory), as_json=as_json)


@app.command()
def info(
    name: Name,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Show everything about one channel; exits with 1 when there is none of that name."""
    from open_channel.cli.channels import show_channel

    with refusals():
        show_channel(where(directory), name, as_json=as_json)


@app.command()
def doctor(directory: Directory = None, as_json: Json = False) -> None:
    """Check that channels can work here; exits with 1 when something is wrong.

    It says which directory is used and why, whether it is safe, whether file locks work in it, who
    holds what, and what dead processes have left.
    """
    from open_channel.cli.doctor import examine

    with refusals():
        examine(where(directory), as_json=as_json)


app.add_typer(bus_commands)
