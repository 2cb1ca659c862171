"""Schedules for people: what a record says, and the shortest schedule that still fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from open_channel.bus.core import records as r
from open_channel.bus.core.answers import decode_done, decode_reply
from open_channel.bus.core.mixed import parse_mixed
from open_channel.bus.core.records import Flag

__all__ = ["describe", "minimise"]

_Item = TypeVar("_Item")


def describe(record: bytes, name: Callable[[bytes], str]) -> str:
    """One record in words."""
    kind = record[0]
    if kind in {r.PUBLISH, r.DIRECT}:
        return _publication(r.parse(record), name)
    if kind == r.MIXED:
        mixed = parse_mixed(record)
        span = f"{name(mixed.sender)}#{mixed.first}..{mixed.last}"
        topics = " ".join(mixed.topics[index] for index in mixed.which)
        return f"{span} to {topics} {Flag(mixed.flags).name or ''}"
    if kind == r.JOB:
        job = r.decode_job(record)
        again = " again" if job.redelivered else ""
        return f"job{again} for s{job.subscription}: {_publication(job.publication, name)}"
    if kind == r.ACK:
        return f"acknowledged {r.decode_ack(record)}"
    control = r.decode_control(record)
    fields = ", ".join(
        f"{field}={_value(getattr(control, field), name)}" for field in control.__struct_fields__
    )
    return f"{type(control).__name__}({fields})"


def _value(value: object, name: Callable[[bytes], str]) -> str:
    if isinstance(value, bytes):
        return name(value)
    if isinstance(value, r.MemberInfo):
        return name(value.id)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one, name) for one in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_value(key, name)}: {_value(one, name)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, r.Job):
        return f"{name(value.publisher)}#{value.seq} {value.group!r} s{value.subscription}"
    if isinstance(value, r.Subscribe):
        group = f" in {value.group}" if value.group else ""
        serves = " serves" if value.serves else ""
        return f"s{value.id} {value.pattern}{group}{serves}"
    return repr(value)


def _publication(publication: r.Publication, name: Callable[[bytes], str]) -> str:
    flags = Flag(publication.flags)
    span = f"{name(publication.sender)}#{publication.first}..{publication.last}"
    where = publication.topic or f"to {name(publication.to)}"
    what = ""
    if flags & Flag.DONE:
        what = f" {[job for body in publication.messages() for job in decode_done(body)]}"
    elif flags & Flag.REPLY:
        what = f" to its {[decode_reply(body)[0] for body in publication.messages()]}"
    return f"{span} {where} {flags.name or ''}{what}"


def minimise(
    items: Sequence[_Item], fails: Callable[[list[_Item]], bool], tries: int = 4000
) -> list[_Item]:
    """A part of ``items`` that still fails and of which no single one can go."""
    kept = list(items)
    size = max(1, len(kept) // 2)
    while True:
        start, shorter = 0, False
        while start < len(kept) and tries > 0:
            rest = kept[:start] + kept[start + size :]
            tries -= 1
            if fails(rest):
                kept, shorter = rest, True
            else:
                start += size
        if tries <= 0 or (size == 1 and not shorter):
            return kept
        size = max(1, size // 2) if size > 1 else 1
