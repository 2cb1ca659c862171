"""``doctor``: whether channels can work here, why they live where they live, and who holds what.

It changes nothing. To see whether ``flock`` works it makes one file for a moment and removes it,
and so it does with a directory where the channels' own is missing.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from open_channel.cli.channels import channel_facts
from open_channel.cli.output import age, console, fail, print_json, table
from open_channel.errors import DirectoryInsecure
from open_channel.io.directory import candidates, resolve
from open_channel.io.inspect import (
    insecurity,
    list_channels,
    list_stale,
    listens,
    socket_room,
    unusable,
)
from open_channel.protocol.limits import Limits

if TYPE_CHECKING:
    from open_channel.io.directory import Resolved
    from open_channel.io.inspect import ChannelState, HostState

__all__ = ["Finding", "examine", "passed_over"]

_RECORD = 8192  # bytes: as much as a host or a member writes of itself, mostly

OK, NOTE, PROBLEM = "ok", "note", "problem"
_STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}


class Finding(NamedTuple):
    """What one check has found."""

    check: str
    status: str
    """``"ok"``, ``"note"`` (worth knowing) or ``"problem"``."""
    text: str


def examine(where: Resolved, *, as_json: bool) -> None:
    """Print all findings; exit code 1 when there is a problem among them."""
    now = time.time()
    findings, channels = _look(where, now)
    problems = sum(finding.status == PROBLEM for finding in findings)
    if as_json:
        print_json(
            {
                "ok": not problems,
                "directory": where.path,
                "why": where.why,
                "findings": [finding._asdict() for finding in findings],
                "channels": [channel_facts(channel, now) for channel in channels],
            }
        )
    else:
        _print(findings, channels, now)
    if problems:
        raise fail(f"{problems} problem{'s'[: problems > 1]} in {where.path}")


def _look(where: Resolved, now: float) -> tuple[list[Finding], list[ChannelState]]:
    findings = [Finding("directory", OK, f"{where.path} ({where.why})"), *passed_over(where)]
    secure = _security(where.path)
    findings += [secure, _room(where.path)]
    if secure.status == PROBLEM:
        findings.append(Finding("flock", NOTE, "not tried: the directory cannot be used"))
        return findings, []
    findings.append(_flock(where.path))
    try:
        channels = list_channels(where.path)
        findings += [finding for channel in channels for finding in _channel(channel, now)]
        findings += _stale(where.path)
    except OSError as error:
        return [*findings, Finding("files", PROBLEM, f"cannot be read: {error}")], []
    return findings, channels


# --- the directory --------------------------------------------------------------------------------


def passed_over(where: Resolved) -> list[Finding]:
    """The places that come before the chosen one, and why each was passed over."""
    found: list[Finding] = []
    try:
        usual = resolve()
    except DirectoryInsecure as error:  # then it is not the chosen one: a directory was given
        text = f"$OPEN_CHANNEL_DIR: {error.reason}: {error.path}"
        return [Finding("passed over", NOTE, text)]
    if where != usual:
        return [Finding("passed over", OK, f"{usual.path}: a directory was given")]
    for name, place, resolved in candidates():
        if resolved is not None:
            break
        reason = f"{unusable(place)}: {place}" if place else "not set"
        # A variable that is set and does not count is more than one that is not set.
        status = NOTE if place and name.startswith("$") else OK
        found.append(Finding("passed over", status, f"{name}: {reason}"))
    return found


def _security(path: str) -> Finding:
    if not os.path.lexists(path):
        if reason := _unmakable(path):
            return Finding("access", PROBLEM, f"missing, and {reason}")
        return Finding("access", OK, "missing; the first member makes it")
    reason = insecurity(path)
    status = os.lstat(path)
    facts = f"owner {_user(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
    return Finding("access", PROBLEM, reason) if reason else Finding("access", OK, facts)


def _unmakable(path: str) -> str:
    """Why a directory that is missing cannot be made; empty when it can."""
    parent = _existing(path)
    if not os.path.isdir(parent):
        return f"{parent} is not a directory"
    try:
        # Permissions do not tell: in /proc nobody can make one, whatever its mode says.
        os.rmdir(tempfile.mkdtemp(prefix="open-channel-doctor.", dir=parent))
    except OSError as error:
        return f"none can be made in {parent}: {error.strerror}"
    return ""


def _existing(path: str) -> str:
    """The nearest thing above ``path`` that exists."""
    while not os.path.lexists(path := os.path.dirname(path)):
        pass
    return path


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def _room(path: str) -> Finding:
    length, limit = socket_room(path)
    text = f"a socket's path takes {length} bytes, and this system allows {limit}"
    return Finding("path length", OK if length <= limit else PROBLEM, text)


def _flock(path: str) -> Finding:
    """Lock a file through one descriptor, and see that another cannot and then can."""
    where = path if os.path.isdir(path) else _existing(path)
    try:
        with tempfile.NamedTemporaryFile(prefix="open-channel-doctor.", dir=where) as first:
            first.write(bytes(_RECORD))  # on a full disk files can be made, and not written
            first.flush()
            second = os.open(first.name, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _locks(second):
                    text = f"two descriptors hold the same lock in {where}"
                    return Finding("flock", PROBLEM, text)
                fcntl.flock(first, fcntl.LOCK_UN)
                if not _locks(second):
                    return Finding("flock", PROBLEM, f"a lock stays after its release in {where}")
            finally:
                os.close(second)
    except OSError as error:
        return Finding("flock", PROBLEM, f"does not work in {where}: {error.strerror}")
    return Finding("flock", OK, f"works in {where}")


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- what is in it --------------------------------------------------------------------------------


def _channel(channel: ChannelState, now: float) -> list[Finding]:
    return [_host(channel.name, host, now) for host in channel.hosts]


def _host(name: str, host: HostState, now: float) -> Finding:
    check = f"{name} ({host.service})"
    record = host.record
    if not host.held:
        return Finding(check, OK, "nobody hosts it")
    if record is None:
        return Finding(check, OK, "its host has not published yet")
    who = f"pid {record.pid} hosts it, epoch {record.epoch}"
    silent = now - host.pulse if host.pulse is not None else 0.0
    if silent > Limits().timeout:
        text = f"{who}, and has shown no sign of life for {age(silent)}"
        return Finding(check, PROBLEM, text)
    if not listens(f"{os.path.dirname(host.lock)}/{record.socket}"):
        return Finding(check, PROBLEM, f"{who}, but nobody listens on its socket {record.socket}")
    if host.holders and record.pid not in host.holders:
        pids = ", ".join(map(str, host.holders))
        return Finding(check, NOTE, f"{who}, and the kernel says that pid {pids} holds its lock")
    return Finding(check, OK, who)


def _stale(path: str) -> list[Finding]:
    stale = list_stale(path)
    if not stale:
        return [Finding("files", OK, "nothing stale")]
    return [Finding("stale", NOTE, f"{os.path.basename(file)}: {what}") for file, what in stale]


# --- for people -----------------------------------------------------------------------------------


def _print(findings: list[Finding], channels: list[ChannelState], now: float) -> None:
    out = console()
    rows = [(Text(status, _STYLES[status]), check, text) for check, status, text in findings]
    out.print(table("", "check", "finding", rows=rows))
    held = [row for channel in channels for row in _holdings(channel, now)]
    if held:
        out.print(table(">pid", "channel", "what it holds", "for", rows=held))


def _holdings(channel: ChannelState, now: float) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for host in channel.hosts:
        record = host.record
        since = age(now - record.since) if record and host.alive else ""
        pids = host.holders or ((record.pid,) if record and host.alive else ())
        rows += [(str(pid), channel.name, f"hosts: {host.service}", since) for pid in pids]
    for member in channel.members:
        what = "member, can host" if member.listens else "member"
        rows.append((str(member.pid), channel.name, what, age(now - member.since)))
    return rows
