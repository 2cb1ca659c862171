"""``ls`` and ``info``: the channels of a directory, and one of them in full."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from open_channel.cli.output import age, console, fail, grid, print_json, table
from open_channel.io.directory import check_name
from open_channel.io.inspect import insecurity, inspect_channel, list_channels

if TYPE_CHECKING:
    from open_channel.io.directory import Resolved
    from open_channel.io.inspect import ChannelState, HostState
    from open_channel.protocol.records import MemberRecord

__all__ = ["channel_facts", "show_channel", "show_channels"]


def show_channels(where: Resolved, *, as_json: bool) -> None:
    """Print the channels of a directory."""
    _check(where)
    now = time.time()
    channels = list_channels(where.path)
    if as_json:
        facts = [channel_facts(channel, now) for channel in channels]
        print_json({"directory": where.path, "why": where.why, "channels": facts})
    elif not channels:
        console().print(f"No channels in {where.path} ({where.why}).")
    else:
        rows = [row for channel in channels for row in _rows(channel, now)]
        columns = ("channel", "service", ">host pid", ">epoch", "hosting for", ">members")
        console().print(table(*columns, rows=rows))


def show_channel(where: Resolved, name: str, *, as_json: bool) -> None:
    """Print everything about one channel; exit code 1 when there is none of that name."""
    _check(where)
    channel = inspect_channel(where.path, check_name(name))
    if channel is None:
        raise fail(f"no channel {name!r} in {where.path} ({where.why})")
    now = time.time()
    if as_json:
        facts = channel_facts(channel, now)
        print_json({"directory": where.path, "why": where.why, **facts})
        return
    out = console()
    out.print(grid([("channel", channel.name), ("directory", f"{where.path} ({where.why})")]))
    for host in channel.hosts:
        out.print()
        out.print(grid(_host_lines(host, now)))
    out.print(_members(channel.members, now))


def _check(where: Resolved) -> None:
    if reason := insecurity(where.path):
        raise fail(f"channel directory {where.path} cannot be used: {reason}")


# --- as JSON --------------------------------------------------------------------------------------


def channel_facts(channel: ChannelState, now: float) -> dict[str, Any]:
    """A channel for a JSON document."""
    return {
        "name": channel.name,
        "key": channel.key,
        "services": {host.service: _host_facts(host, now) for host in channel.hosts},
        "members": [
            {**member._asdict(), "age": round(now - member.since, 3)} for member in channel.members
        ],
    }


def _host_facts(host: HostState, now: float) -> dict[str, Any]:
    record = host.record
    return {
        "lock": host.lock,
        "held": host.held,
        "alive": host.alive,
        "holders": list(host.holders),
        "pid": record.pid if record and host.alive else None,
        "epoch": record.epoch if record else None,
        "age": round(now - record.since, 3) if record and host.alive else None,
        "pulse_age": round(now - host.pulse, 3) if host.pulse and host.alive else None,
        "record": record._asdict() if record else None,
    }


# --- for people -----------------------------------------------------------------------------------


def _rows(channel: ChannelState, now: float) -> list[tuple[str, ...]]:
    members = str(len(channel.members))
    if not channel.hosts:
        return [(channel.name, "-", "nobody", "-", "-", members)]
    rows: list[tuple[str, ...]] = []
    for host in channel.hosts:
        record = host.record
        epoch = str(record.epoch) if record else "-"
        row = (host.service, _who(host), epoch, _hosting_for(host, now))
        rows.append(("", *row, "") if rows else (channel.name, *row, members))
    return rows


def _who(host: HostState) -> str:
    if not host.held:
        return "nobody"
    return str(host.record.pid) if host.record else "starting"


def _hosting_for(host: HostState, now: float) -> str:
    return age(now - host.record.since) if host.record and host.alive else "-"


def _host_lines(host: HostState, now: float) -> list[tuple[str, str]]:
    record = host.record
    lines = [("service", host.service), ("lock", f"{host.lock} ({_lock_holder(host)})")]
    if record is None:
        return [*lines, ("host", "not published yet" if host.held else "nobody")]
    since = age(now - record.since)
    if not host.held:
        return [*lines, ("host", f"nobody; the last was pid {record.pid}, epoch {record.epoch}")]
    lines += [
        ("host", f"pid {record.pid}, member {record.member}"),
        ("hosting", f"epoch {record.epoch}, for {since}, on {record.socket}"),
    ]
    if host.pulse is not None:
        lines.append(("pulse", f"{age(now - host.pulse)} ago"))
    return lines


def _lock_holder(host: HostState) -> str:
    if not host.held:
        return "free"
    if not host.holders:
        return "held"
    return f"held by pid {', '.join(map(str, host.holders))}"


def _members(members: tuple[MemberRecord, ...], now: float) -> Any:
    if not members:
        return "\nNo living members."
    rows = [
        (str(member.pid), age(now - member.since), "yes" if member.listens else "no", member.member)
        for member in members
    ]
    title = "1 member" if len(rows) == 1 else f"{len(rows)} members"
    return table(">pid", "member for", "listens", "member", rows=rows, title=title)
