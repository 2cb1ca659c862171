"""What happens in a chaos run, and when: drawn from a seed, without looking at what is there.

Each run goes through several *weathers*: some things happen often in one and never in another,
since what can befall a process hides what else can when everything always happens at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["KINDS", "Step", "Weather", "schedule", "weathers"]

KINDS = {
    "kill the broker's host": 12,
    "kill the listener's host": 5,
    "kill one": 3,
    "kill the host and one more": 2,
    "stop the broker's host": 2,
    "stop the listener's host": 1,
    "stop one": 2,
    "stop one for a moment": 3,
    "the broker's host leaves": 2,
    "the listener's host leaves": 1,
    "one leaves": 1,
    "the host forks": 1,
    "one forks": 1,
    "the host forks and is killed": 2,
    "one more joins": 1,
    "a loop is blocked": 3,
    "a call holds the host's interpreter": 1,
    "a call holds an interpreter": 1,
    "the directory is deleted": 1,
}
"""All that can happen, with how often it does relative to the others."""

_LASTS = (4.0, 12.0)  # seconds of a weather
_CALM = 0.3  # the share of what never happens in a weather


class Weather(NamedTuple):
    """How often what happens, for some seconds."""

    weights: dict[str, float]
    pause: float
    """Seconds between two things, on the average."""
    lasts: float


class Step(NamedTuple):
    """One thing that happens."""

    at: float
    """Seconds since the begin."""
    kind: str
    spot: float
    """From 0 to 1: which of those it can befall."""
    length: float
    """From 0 to 1: how long it lasts, of what it may."""


def weathers(chance: random.Random) -> Iterator[Weather]:
    """One after the other, without end."""
    while True:
        weights = {
            kind: weight * chance.choice([0.3, 1.0, 3.0])
            for kind, weight in KINDS.items()
            if chance.random() > _CALM
        }
        # However the others are drawn, hosts die.
        weights["kill the broker's host"] = max(12.0, weights.get("kill the broker's host", 0.0))
        yield Weather(weights, chance.choice([0.1, 0.2, 0.4]), chance.uniform(*_LASTS))


def schedule(seed: int) -> Iterator[Step]:
    """The steps of a seed, without end."""
    chance = random.Random(seed)
    now = 0.0
    for weather in weathers(chance):
        end = now + weather.lasts
        kinds, weights = list(weather.weights), list(weather.weights.values())
        while now < end:
            (kind,) = chance.choices(kinds, weights)
            # Some things happen in the midst of others.
            now += chance.expovariate(1 / weather.pause) if chance.random() < 0.7 else 0.0
            yield Step(now, kind, chance.random(), chance.random())
