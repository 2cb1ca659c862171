"""What we want to reach against the peers, each as a ratio within one record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness import Goal

from peers.record import Found, Record

STEADY = 5.0
"""MiB: by so much the host's resident memory may differ while a stream goes on."""


@dataclass(frozen=True, slots=True)
class Aim:
    """One goal: the bound, and what each variant of ours has reached."""

    what: str
    bound: float
    at_most: bool
    reached: Mapping[str, float]
    """By the name of the variant."""
    unit: str = ""

    def goals(self) -> list[Goal]:
        return [
            Goal(f"{self.what}, {name}", self.bound, value, self.at_most, self.unit)
            for name, value in self.reached.items()
        ]


def variant(found: Found) -> str:
    """uvloop, batches; asyncio, messages..."""
    return found.name.partition(", ")[2]


def both(found: Found, value: float) -> dict[str, float]:
    """A figure that does not depend on how a subscription is read."""
    return {f"{variant(found)}, {how}": value for how in ("messages", "batches")}


def aims(records: Mapping[str, Record]) -> list[Aim]:
    """All goals for which there are figures."""
    found: list[Aim] = []
    for pattern, derive in DERIVATIONS.items():
        if pattern in records:
            found += [aim for aim in derive(records[pattern]) if aim.reached]
    return found


def against(record: Record, peer: str, bound: float, what: str) -> Iterable[Aim]:
    other = record.measured().get(peer)
    if other is not None:
        reached = {variant(f): f.ratio(other) for f in record.of_kind("ours")}
        yield Aim(f"{what} to {other.name}", bound, False, reached)


def against_best_broker(record: Record, bound: float, what: str) -> Iterable[Aim]:
    brokers = record.of_kind("brokered")
    if brokers:
        best = max(brokers, key=lambda found: found.median("rate"))
        reached = {variant(f): f.ratio(best) for f in record.of_kind("ours")}
        yield Aim(f"{what} to the best brokered peer ({best.name})", bound, False, reached)


def _stream(record: Record) -> Iterable[Aim]:
    what = "stream, rate"
    yield from against(record, "zmq-pair", 1.3, what)
    yield from against(record, "zmq-proxy", 6.0, what)
    yield from against(record, "nats", 10.0, what)
    yield from against(record, "redis", 12.0, what)
    shares = {
        variant(f): f.median("host_cpu_us") / f.median("publisher_cpu_us")
        for f in record.of_kind("ours")
    }
    yield Aim("stream, CPU of the host to the publisher's", 0.25, True, shares)


def _fanout(record: Record) -> Iterable[Aim]:
    yield from against_best_broker(record, 3.0, "fan-out to 8, deliveries a second")


def _request(record: Record) -> Iterable[Aim]:
    ours = record.of_kind("ours")
    brokers = record.of_kind("brokered")
    if brokers:
        best = min(brokers, key=lambda found: found.median("p50_us"))
        reached = {k: v for f in ours for k, v in both(f, f.ratio(best, "p50_us")).items()}
        yield Aim(f"request, p50, to the best brokered peer ({best.name})", 1.0, True, reached)
    floor = record.measured().get("raw-hops")
    if floor is not None:
        reached = {k: v for f in ours for k, v in both(f, f.ratio(floor, "p50_us")).items()}
        yield Aim(f"request, p50, to {floor.name}", 2.2, True, reached)


def _bodies(record: Record) -> Iterable[Aim]:
    yield from against(record, "zmq-pair", 1.0, "1 MiB to one, rate")


def _bodies4(record: Record) -> Iterable[Aim]:
    yield from against_best_broker(record, 2.0, "1 MiB to four, deliveries a second")


def _subscriptions(record: Record) -> Iterable[Aim]:
    reached = {}
    for found in record.of_kind("ours"):
        if found.x == 1000:
            alone = record.measured()[f"{found.peer}@1"]
            reached[variant(found)] = found.ratio(alone)
    yield Aim(
        "busy topic beside 1,000 idle subscriptions, rate to that beside 1", 0.95, False, reached
    )


def _soak(record: Record) -> Iterable[Aim]:
    ours = record.of_kind("ours")
    if ours:
        seconds = ours[0].median("seconds")
        growth = {variant(f): f.median("highest") - f.median("early_memory") for f in ours}
        what = f"growth of the host's memory during {seconds:.0f} s of a stream"
        yield Aim(what, STEADY, True, growth, "MiB")


DERIVATIONS: dict[str, Callable[[Record], Iterable[Aim]]] = {
    "stream": _stream,
    "fanout": _fanout,
    "request": _request,
    "bodies": _bodies,
    "bodies4": _bodies4,
    "subscriptions": _subscriptions,
    "soak": _soak,
}
