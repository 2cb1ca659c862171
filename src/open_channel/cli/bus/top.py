"""``top``: a channel live, as a member of it that subscribes to everything sees it."""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from open_channel.bus.core.figures import TOPIC as BROKER
from open_channel.cli.bus.members import labels, member_facts
from open_channel.cli.bus.membership import others, run, visiting
from open_channel.cli.bus.text import json_line, one_line, print_soon
from open_channel.cli.output import age, console, grid, table
from open_channel.cli.streams import while_read
from open_channel.errors import RequestError
from open_channel.io.directory import ChannelFiles
from open_channel.io.presence import list_members

if TYPE_CHECKING:
    from rich.console import RenderableType

    from open_channel import Channel
    from open_channel.bus.members import Member, Stats
    from open_channel.bus.subscription import Subscription
    from open_channel.io.directory import Resolved

__all__ = ["Picture", "Traffic", "View", "picture_lines", "watch"]

_EVERY = 1.0  # seconds between two pictures, over which the rates are taken
_PATIENCE = 0.5  # seconds that the broker may take to answer
_NAMED = 3  # topics in a line
_TABLE = 4  # lines that a table takes beside its rows
_KNOWN = 10_000  # topics that are told apart
_REST = "(all others)"


class Traffic:
    """Counts messages by topic, and says how many a second there were."""

    def __init__(self, now: float) -> None:
        self.total = 0
        self._counts: Counter[str] = Counter()
        self._known: set[str] = set()
        self._since = now

    def count(self, topic: str, messages: int) -> None:
        """Messages have come; of topics without end the first ones are told apart."""
        if topic not in self._known:
            if len(self._known) >= _KNOWN:
                topic = _REST
            self._known.add(topic)
        self._counts[topic] += messages
        self.total += messages

    def rates(self, now: float) -> list[tuple[str, float]]:
        """Messages a second by topic since the last time, the most first; begins anew."""
        counts, self._counts = self._counts, Counter()
        passed, self._since = max(now - self._since, 1e-3), now
        return [(topic, count / passed) for topic, count in counts.most_common()]


def watch(at: Resolved, name: str, *, plain: bool, as_json: bool, seconds: float | None) -> None:
    """Show a channel until ``seconds`` have passed (None: until Ctrl-C).

    Exit code 1 when nobody is there.
    """
    run(_watch(at, name, _view(plain=plain, as_json=as_json), seconds), ends_so=True)


async def _watch(at: Resolved, name: str, view: View, seconds: float | None) -> None:
    async with (
        visiting(at, name) as channel,
        channel.subscribe(">") as everything,
        while_read(),
    ):
        traffic = Traffic(time.monotonic())
        counting = asyncio.ensure_future(_count(everything, traffic))
        files = ChannelFiles.of(at.path, name)
        try:
            with view:
                await _show(channel, files, traffic, seconds, view)
        finally:
            counting.cancel()


async def _count(everything: Subscription, traffic: Traffic) -> None:
    async for batch in everything.batches():
        traffic.count(batch.topic, len(batch))


async def _show(
    channel: Channel, files: ChannelFiles, traffic: Traffic, seconds: float | None, view: View
) -> None:
    begun = time.monotonic()
    end = begun + seconds if seconds is not None else float("inf")
    due = begun
    while (now := time.monotonic()) < end:
        due = max(due + _EVERY, now)
        await asyncio.sleep(min(due, end) - now)
        broker = await _ask(channel)
        now = time.monotonic()
        await view.show(Picture.take(channel, files, traffic, broker, now - begun, now))


async def _ask(channel: Channel) -> dict[str, Any]:
    """The broker's figures; none while there is no broker."""
    try:
        figures: dict[str, Any] = await channel.request(BROKER, timeout=_PATIENCE)
    except RequestError:
        return {}
    return figures


# --- what is shown --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picture:
    """A channel at one moment."""

    name: str
    elapsed: float
    members: list[Member]
    """Who lives, the command itself left out."""
    stats: Stats
    """The command's own."""
    rates: list[tuple[str, float]]
    """(topic, messages a second)."""
    total: int
    """Messages since the command began."""
    broker: dict[str, Any]
    """What the broker says of itself, or nothing."""

    @classmethod
    def take(
        cls,
        channel: Channel,
        files: ChannelFiles,
        traffic: Traffic,
        broker: dict[str, Any],
        elapsed: float,
        now: float,
    ) -> Picture:
        """Look at everything now."""
        members = others(channel)
        if not broker:
            # Nobody tells who has died while nobody hosts; the members' files do.
            living = {record.member for record in list_members(files)}
            members = [member for member in members if member.id in living]
        rates = traffic.rates(now)
        stats = channel.stats()
        return cls(channel.name, elapsed, members, stats, rates, traffic.total, broker)

    @property
    def host(self) -> Member | None:
        """Who hosts the broker."""
        return next((one for one in self.members if "broker" in one.hosting), None)

    @property
    def rate(self) -> float:
        """Messages a second, to all topics."""
        return sum(rate for _, rate in self.rates)

    def figure(self, member: Member, name: str) -> Any:
        """What the broker says of a member; None when it says nothing."""
        figures: dict[str, Any] = self.broker.get("members", {}).get(member.id, {})
        return figures.get(name)

    @property
    def queued(self) -> int:
        """Bytes on their way to the members, the command itself left out."""
        return sum(self.figure(member, "queued") or 0 for member in self.members)


class View(ABC):
    """Shows pictures; a context, at whose end the terminal is in order."""

    def __enter__(self) -> View:
        """Begin to show."""
        return self

    @abstractmethod
    def __exit__(self, *error: object) -> None:
        """Leave the terminal in order."""

    @abstractmethod
    async def show(self, picture: Picture) -> None:
        """Show one picture."""


def _view(*, plain: bool, as_json: bool) -> View:
    if as_json:
        return _Json()
    return _Plain() if plain or not sys.stdout.isatty() else _Lively()


class _Plain(View):
    """A line for each, for logs."""

    def __exit__(self, *error: object) -> None:
        pass

    async def show(self, picture: Picture) -> None:
        """See ``View``."""
        await print_soon(f"{_line(picture)}\n")


def _line(picture: Picture) -> str:
    stats, rates, host = picture.stats, picture.rates, picture.host
    facts = [
        f"{picture.elapsed:6.1f} s",
        f"members {len(picture.members)}",
        f"host {f'pid {host.pid}' if host else 'nobody'}",
        f"epoch {stats.epoch}",
        f"takeovers {stats.takeovers}",
        f"{picture.rate:,.0f} messages/s",
        f"queued {picture.queued:,} bytes",
        *(f"{one_line(topic)} {rate:,.0f}/s" for topic, rate in rates[:_NAMED]),
    ]
    if len(rates) > _NAMED:
        facts.append(f"and {len(rates) - _NAMED} more topics")
    return "  ".join(facts)


class _Json(View):
    """An object for each, in a line."""

    def __exit__(self, *error: object) -> None:
        pass

    async def show(self, picture: Picture) -> None:
        """See ``View``."""
        await print_soon(f"{json_line(_facts(picture))}\n")


def _facts(picture: Picture) -> dict[str, Any]:
    stats, broker, host = picture.stats, picture.broker, picture.host
    names = ("queued", "left_out", "away", "subscriptions", "jobs")
    return {
        "channel": picture.name,
        "elapsed": round(picture.elapsed, 3),
        "host": host.id if host else None,
        "epoch": stats.epoch,
        "takeovers": stats.takeovers,
        "rate": round(picture.rate, 1),
        "messages": picture.total,
        "missed": stats.missed,
        "topics": {topic: round(rate, 1) for topic, rate in picture.rates},
        "routed": broker.get("routed"),
        "dropped": broker.get("dropped"),
        "members": [
            {**member_facts(one), **{name: picture.figure(one, name) for name in names}}
            for one in picture.members
        ],
    }


class _Lively(View):
    """A picture in place of the one before."""

    def __init__(self) -> None:
        self._console = console()
        self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    async def show(self, picture: Picture) -> None:
        self._live.update(picture_lines(picture, self._console.height), refresh=True)


def picture_lines(picture: Picture, height: int) -> RenderableType:
    """As much as fits into so many lines."""
    stats, host = picture.stats, picture.host
    hosting = Text(f"pid {host.pid}, epoch {stats.epoch}", "green") if host else Text("nobody")
    facts = grid(
        [
            ("channel", Text(picture.name, "bold")),
            ("watched", age(picture.elapsed)),
            ("host", hosting),
            ("takeovers", f"{stats.takeovers} since then"),
            ("messages", f"{picture.rate:,.0f} a second, {picture.total:,} in all"),
            ("queues", _queues(picture)),
        ]
    )
    room = max(4, height - 6 - 2 * _TABLE)
    most_topics = max(2, room - min(len(picture.members), room // 2))
    most_members = max(2, room - min(len(picture.rates), most_topics))
    topics = [(one_line(topic), f"{rate:,.0f}") for topic, rate in picture.rates]
    parts: list[RenderableType] = [facts]
    if picture.members:
        parts.append(_members(picture, most_members))
    if topics:
        parts.append(table("topic", ">messages/s", rows=_cut(topics, most_topics)))
    return Group(*parts)


def _queues(picture: Picture) -> str:
    broker = picture.broker
    if not broker:
        return "-"
    missed = f", {picture.stats.missed:,} missed here" if picture.stats.missed else ""
    return f"{picture.queued:,} bytes at the host, {broker['dropped']:,} messages dropped{missed}"


def _members(picture: Picture, most: int) -> RenderableType:
    rows = [
        (
            str(member.pid),
            ", ".join(sorted(member.hosting)),
            *(_figure(picture, member, name) for name in ("subscriptions", "jobs", "queued")),
            _state(picture, member),
            labels(member),
        )
        for member in sorted(picture.members, key=lambda one: (one.pid, one.id))
    ]
    columns = (">pid", "hosting", ">subscriptions", ">jobs", ">bytes queued", "state", "labels")
    return table(*columns, rows=_cut(rows, most))


def _figure(picture: Picture, member: Member, name: str) -> str:
    figure = picture.figure(member, name)
    return "-" if figure is None else f"{figure:,}"


def _state(picture: Picture, member: Member) -> Text:
    if picture.figure(member, "away"):
        return Text("away", "yellow")
    if picture.figure(member, "left_out"):
        return Text("left out", "red")
    return Text("in touch" if picture.broker else "-")


def _cut(rows: list[tuple[Any, ...]], most: int) -> list[tuple[Any, ...]]:
    """The first rows, and how many are not shown."""
    if len(rows) <= most:
        return rows
    shown = rows[: most - 1]
    return [*shown, (f"+{len(rows) - len(shown)}", *[""] * (len(rows[0]) - 1))]
