"""The commands of ``open-channel``: their names, options and help texts."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from open_channel.cli.output import refusals
from open_channel.io.directory import Resolved, resolve

__all__ = ["app"]

app = typer.Typer(
    help="Processes of one machine talk over a channel by name. See it work, and look into it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_Directory = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        metavar="DIR",
        help="Look here instead of where the library looks by itself.",
        show_default=False,
    ),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def _where(directory: Path | None) -> Resolved:
    return resolve() if directory is None else Resolved(resolve(directory).path, "--directory")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"open-channel {metadata.version('open-channel')}")
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
    workers: Annotated[
        int,
        typer.Option(
            min=3, help="How many processes: half of them write, the others stand for host."
        ),
    ] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long they talk.")] = 10.0,
    every: Annotated[
        float, typer.Option(min=0.05, help="Seconds from one kill of the host to the next.")
    ] = 1.0,
    plain: Annotated[
        bool, typer.Option("--plain", help="One line a second instead of the live display.")
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
    """
    from open_channel.cli.demo.run import Settings, run_demo

    with refusals():
        code = run_demo(Settings(workers, seconds, every, directory), plain=plain)
    raise typer.Exit(code)


@app.command()
def ls(directory: _Directory = None, as_json: _Json = False) -> None:
    """List the channels: who hosts each, since when, and how many members it has."""
    from open_channel.cli.channels import show_channels

    with refusals():
        show_channels(_where(directory), as_json=as_json)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="The channel's name.", show_default=False)],
    directory: _Directory = None,
    as_json: _Json = False,
) -> None:
    """Show everything about one channel; exits with 1 when there is none of that name."""
    from open_channel.cli.channels import show_channel

    with refusals():
        show_channel(_where(directory), name, as_json=as_json)


@app.command()
def doctor(directory: _Directory = None, as_json: _Json = False) -> None:
    """Check that channels can work here; exits with 1 when something is wrong.

    It says which directory is used and why, whether it is safe, whether file locks work in it, who
    holds what, and what dead processes have left. It changes nothing.
    """
    from open_channel.cli.doctor import examine

    with refusals():
        examine(_where(directory), as_json=as_json)
