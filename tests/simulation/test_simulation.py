"""The bus's core under random schedules of deaths, stops, cuts and delays, by fixed seeds.

``make simulate SEEDS=100000`` does the same for longer, and shows what fails as a short schedule.
"""

from __future__ import annotations

import pytest

from tests.simulation.schedule import Result, replay, run, settings_of, shorten
from tests.simulation.trace import minimise

SEEDS = 600
PARTS = 6
FOUND = (41, 147, 202, 223, 237, 254, 300, 523, 806, 894, 1094, 1307, 1908, 3163, 3741)
"""Seeds that found something once."""


def explain(result: Result) -> str:
    steps = shorten(result)
    world, failure = replay(settings_of(result.seed), steps, traced=True)
    return "\n".join([f"seed {result.seed}: {failure}", *world.lines, failure])


@pytest.mark.parametrize("part", range(PARTS))
def test_everything_holds_under_random_schedules(part):
    takeovers = 0
    for seed in range(1 + part, SEEDS, PARTS):
        result = run(seed)
        assert not result.failure, explain(result)
        takeovers += result.takeovers
    assert takeovers > SEEDS // PARTS // 2


@pytest.mark.parametrize("seed", FOUND)
def test_everything_holds_for_seeds_that_found_something(seed):
    result = run(seed)
    assert not result.failure, explain(result)


def test_a_seed_is_always_the_same_schedule():
    one, other = run(7), run(7)
    assert one == other
    assert replay(settings_of(7), one.steps)[1] == ""


def test_a_failing_schedule_becomes_short():
    steps = minimise(range(100), lambda steps: {17, 63} <= set(steps))
    assert steps == [17, 63]
