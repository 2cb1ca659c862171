"""The bus's commands: their names, options and help texts."""

from __future__ import annotations

from typing import Annotated

import typer

from open_channel.cli.options import Directory, Json, Name, where
from open_channel.cli.output import refusals

__all__ = ["bus_commands"]

bus_commands = typer.Typer()

_Topic = Annotated[str, typer.Argument(help="A topic, as orders.eu.", show_default=False)]
_AsJson = Annotated[bool, typer.Option("--json", help="DATA is JSON, and so is what is printed.")]


@bus_commands.command()
def pub(
    name: Name,
    topic: _Topic,
    data: Annotated[
        str,
        typer.Argument(
            help="The message, as text; - for each line of standard input.", show_default=False
        ),
    ] = "",
    as_json: _AsJson = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="With -: all of standard input is one message.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="Publish each message so many times.")] = 1,
    directory: Directory = None,
) -> None:
    """Publish, and wait until every subscriber has it (and every group has done it)."""
    from open_channel.cli.bus.messages import publish

    with refusals():
        publish(where(directory), name, topic, data, as_json=as_json, whole=whole, count=count)


@bus_commands.command()
def sub(
    name: Name,
    pattern: Annotated[
        str,
        typer.Argument(
            help="A topic, or a pattern: * is one token, a last > the rest.", show_default=False
        ),
    ],
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One JSON object a line: topic, data, sender, missed."),
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(help="Share the messages with all others of this group.", show_default=False),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="End after so many messages.", show_default=False)
    ] = None,
    directory: Directory = None,
) -> None:
    """Print what is published from now on, a line each; leave with Ctrl-C."""
    from open_channel.cli.bus.messages import subscribe

    if group == "":
        raise typer.BadParameter("a group has a name", param_hint="--group")
    with refusals():
        subscribe(where(directory), name, pattern, as_json=as_json, group=group, count=count)


@bus_commands.command()
def req(
    name: Name,
    topic: _Topic,
    data: Annotated[
        str,
        typer.Argument(
            help="The message, as text; - for all of standard input.", show_default=False
        ),
    ] = "",
    everybody: Annotated[
        bool, typer.Option("--all", help="Ask everybody who serves the topic.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for replies.")] = 5.0,
    to: Annotated[
        str | None,
        typer.Option(metavar="MEMBER", help="Ask this member, by its id.", show_default=False),
    ] = None,
    as_json: _AsJson = False,
    directory: Directory = None,
) -> None:
    """Send a request and print the reply; exits with 1 when there is none."""
    from open_channel.cli.bus.messages import request, request_all

    if everybody and to is not None:
        raise typer.BadParameter("--all asks everybody, --to one", param_hint="--to")
    at = where(directory)
    with refusals():
        if everybody:
            request_all(at, name, topic, data, timeout=timeout, as_json=as_json)
        else:
            request(at, name, topic, data, to=to, timeout=timeout, as_json=as_json)


@bus_commands.command()
def members(
    name: Name,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with who comes and goes; leave with Ctrl-C.")
    ] = False,
    directory: Directory = None,
) -> None:
    """List who is on a channel's bus; exits with 1 when nobody is."""
    from open_channel.cli.bus.members import show_members, watch_members

    with refusals():
        (watch_members if watch else show_members)(where(directory), name, as_json=as_json)


@bus_commands.command()
def top(
    name: Name,
    plain: Annotated[
        bool, typer.Option("--plain", help="One line a second instead of the live display.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a second, in one line.")
    ] = False,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="End after so many seconds.", show_default=False),
    ] = None,
    directory: Directory = None,
) -> None:
    """Watch a channel live: who is there, who hosts, how much is published where.

    It subscribes to everything while it runs. Leave with Ctrl-C.
    """
    from open_channel.cli.bus.top import watch

    with refusals():
        watch(where(directory), name, plain=plain, as_json=as_json, seconds=seconds)
