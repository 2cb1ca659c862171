"""``members``: who is on a channel's bus, and who comes and goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from open_channel.cli.bus.membership import others, run, visiting
from open_channel.cli.bus.text import json_line, one_line, print_soon
from open_channel.cli.output import console, print_json, table
from open_channel.cli.streams import while_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from open_channel.bus.members import Member
    from open_channel.io.directory import Resolved

__all__ = ["labels", "member_facts", "members_table", "show_members", "watch_members"]


def show_members(at: Resolved, name: str, *, as_json: bool) -> None:
    """Print the members, this command left out; exit code 1 when there is none."""

    async def show() -> None:
        async with visiting(at, name) as channel:
            found = others(channel)
        if as_json:
            print_json({"channel": name, "members": [member_facts(member) for member in found]})
        else:
            console().print(members_table(found))

    run(show())


def watch_members(at: Resolved, name: str, *, as_json: bool) -> None:
    """Print the members, then each that joins or leaves, until Ctrl-C."""
    line = _json_line if as_json else _text_line

    async def show() -> None:
        async with visiting(at, name) as channel, while_read():
            # Nothing can happen between the two: the loop has no turn.
            print("".join([line("present", member) for member in others(channel)]), end="")
            sys.stdout.flush()
            async for change in channel.watch_members():
                if change.member.id != channel.member:
                    await print_soon(line(change.kind, change.member))

    run(show(), ends_so=True)


def _json_line(kind: str, member: Member) -> str:
    return json_line({"change": kind, **member_facts(member)}) + "\n"


def _text_line(kind: str, member: Member) -> str:
    services = ", ".join(sorted(member.hosting))
    facts = [kind.ljust(7), member.id, f"pid {member.pid}", services, labels(member)]
    return "  ".join(fact for fact in facts if fact) + "\n"


def member_facts(member: Member) -> dict[str, Any]:
    """A member for a JSON document."""
    return {
        "id": member.id,
        "pid": member.pid,
        "hosting": sorted(member.hosting),
        "labels": dict(member.labels),
    }


def labels(member: Member) -> str:
    """What a member was opened with, in print."""
    return one_line(", ".join(f"{key}={value}" for key, value in sorted(member.labels.items())))


def members_table(found: Sequence[Member]) -> Table:
    """The members for people, by their process ids."""
    rows = [
        (member.id, str(member.pid), ", ".join(sorted(member.hosting)), labels(member))
        for member in sorted(found, key=lambda member: (member.pid, member.id))
    ]
    return table("member", ">pid", "hosting", "labels", rows=rows)
