"""The patterns: who takes part in each, what is measured, and how long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from peers import all_peers, patterns, takeovers
from peers.patterns import MEBIBYTE, Figures, Stream
from peers.peer import Peer

Select: TypeAlias = Callable[[Peer], bool]


@dataclass(frozen=True, slots=True)
class Entry:
    """One contestant: a peer, and how many of whatever the pattern varies."""

    peer: Peer
    measure: Callable[[int], Figures]
    """Measures so many messages, requests...; the figures have the ``seconds`` that they took."""
    x: int | None = None
    reads: bool = True
    """Whether the way in which a subscription is read makes a difference."""

    @property
    def name(self) -> str:
        return self.peer.name if self.reads else self.peer.name.removesuffix(", batches")

    @property
    def key(self) -> str:
        return self.peer.key if self.x is None else f"{self.peer.key}@{self.x}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """What all its entries do in turn, once in each round."""

    key: str
    title: str
    first: int
    """So many messages to begin with, to see how fast it goes."""
    most: int
    """No more than so many in one round."""
    entries: Callable[[], list[Entry]]
    least: int = 1
    seconds: float = 0.7
    """What one measurement is to take."""
    varies: str = ""
    """What ``Entry.x`` counts."""


def can_send(peer: Peer) -> bool:
    return peer.send is not None


def can_ask(peer: Peer) -> bool:
    return peer.request is not None


def streams(select: Select, **options: int) -> list[Entry]:
    return [Entry(peer, partial(_stream, peer, options)) for peer in all_peers() if select(peer)]


def varied(select: Select, name: str, numbers: Sequence[int], **options: int) -> list[Entry]:
    """Streams of which one thing varies."""
    return [
        Entry(peer, partial(_stream, peer, {**options, name: number}), number)
        for peer in all_peers()
        if select(peer)
        for number in numbers
    ]


def _stream(peer: Peer, options: dict[str, int], count: int) -> Figures:
    return patterns.deliver(peer, Stream(count, **options))


def askers(fresh: bool) -> list[Entry]:
    return [
        Entry(peer, partial(_ask, peer, fresh), reads=False)
        for peer in all_peers()
        if can_ask(peer) and "request" in (peer.patterns or ("request",))
    ]


def _ask(peer: Peer, fresh: bool, count: int) -> Figures:
    return patterns.requests(peer, count, fresh=fresh)


def idlers() -> list[Entry]:
    return [
        Entry(peer, partial(_idle, peer), reads=False)
        for peer in all_peers()
        if can_send(peer) and not peer.patterns
    ]


def _idle(peer: Peer, seconds: int) -> Figures:
    return {"count": 1.0, "seconds": float(seconds)} | patterns.idle([peer], float(seconds))[
        peer.key
    ]


def crowded(peer: Peer) -> bool:
    """Who holds a crowd; ours once."""
    return peer.crowd is not None and not peer.patterns and peer.loop != "asyncio"


def hosted(peer: Peer) -> bool:
    """Who knows topics; ours once."""
    return peer.topics and not peer.patterns and peer.key != "ours-asyncio-batches"


def only_ours(peer: Peer) -> bool:
    return peer.kind == "ours" and not peer.patterns


def takeover_entries() -> list[Entry]:
    return [
        Entry(peer, partial(takeovers.measure, peer), reads=False)
        for peer in all_peers()
        if only_ours(peer)
    ]


def soak_entries() -> list[Entry]:
    return [
        Entry(peer, partial(_soak, peer))
        for peer in all_peers()
        if only_ours(peer) and crowded(peer)
    ]


def _soak(peer: Peer, count: int) -> Figures:
    return patterns.deliver(peer, Stream(count, wait=1200.0, watch_memory=True))


PATTERNS = {
    pattern.key: pattern
    for pattern in (
        Pattern(
            "stream",
            "One way: 64-byte messages from one process to another",
            5000,
            1_000_000,
            partial(streams, can_send),
        ),
        Pattern(
            "fanout",
            "Fan-out: 64-byte messages from one process to eight others",
            1000,
            300_000,
            partial(streams, can_send, receivers=8),
        ),
        Pattern(
            "request",
            "Request and reply: 64 bytes there and back, one at a time",
            300,
            20_000,
            partial(askers, False),
            least=300,
        ),
        Pattern(
            "bodies",
            "Large bodies: 1 MiB from one process to another",
            20,
            4000,
            partial(streams, can_send, size=MEBIBYTE),
        ),
        Pattern(
            "bodies4",
            "Large bodies: 1 MiB from one process to four others",
            10,
            2000,
            partial(streams, can_send, size=MEBIBYTE, receivers=4),
        ),
        Pattern(
            "connect",
            "Connecting: from a new client to its first answer",
            20,
            500,
            partial(askers, True),
            least=20,
        ),
        Pattern(
            "idle",
            "Idle: what a member that waits costs",
            2,
            2,
            idlers,
            least=2,
        ),
        Pattern(
            "members",
            "A stream beside idle members",
            5000,
            500_000,
            partial(varied, crowded, "members", (2, 20, 200), subscriptions=1),
            seconds=0.5,
            varies="idle members",
        ),
        Pattern(
            "topics",
            "A stream over several topics in turn, to one subscriber to all",
            2000,
            500_000,
            partial(varied, hosted, "topics", (1, 10, 1000, 10_000)),
            seconds=0.4,
            varies="topics",
        ),
        Pattern(
            "subscriptions",
            "A busy topic beside idle subscriptions of another member",
            5000,
            500_000,
            partial(varied, crowded, "subscriptions", (1, 1000, 10_000), members=1),
            seconds=0.5,
            varies="idle subscriptions",
        ),
        Pattern(
            "takeover",
            "Takeover: the pause of a stream when its host is killed",
            3,
            10,
            takeover_entries,
            least=10,
        ),
        Pattern(
            "soak",
            "The host's memory while a stream goes on",
            100_000,
            1 << 40,
            soak_entries,
            seconds=75.0,
        ),
    )
}
