"""The bus's core under random schedules of deaths, stops, cuts and delays, by fixed seeds.

``make simulate SEEDS=100000`` does the same for longer, and shows what fails as a short schedule.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.simulation import talk_schedule
from tests.simulation.schedule import Result, replay, run, settings_of, shorten
from tests.simulation.trace import minimise
from tests.simulation.world import Settings

FILE = Path(__file__).with_name("found.jsonl")
SEEDS = 600
TALKS = 1200
WIPED = 150
PARTS = 6
FOUND = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
"""Schedules that found something once, as they were taken then."""


def explain(result: Result) -> str:
    steps = shorten(result)
    world, failure = replay(result.settings, steps, traced=True)
    return "\n".join([f"seed {result.seed}: {failure}", *world.lines, failure])


@pytest.mark.parametrize("part", range(PARTS))
def test_everything_holds_under_random_schedules(part):
    takeovers = 0
    for seed in range(1 + part, SEEDS, PARTS):
        result = run(seed)
        assert not result.failure, explain(result)
        takeovers += result.takeovers
    assert takeovers > SEEDS // PARTS // 2


@pytest.mark.parametrize("found", FOUND, ids=[str(found["seed"]) for found in FOUND])
def test_everything_holds_for_schedules_that_found_something(found):
    steps = [tuple(number(word) for word in step.split()) for step in found["steps"]]
    assert replay(Settings(**found["settings"]), steps)[1] == ""


@pytest.mark.parametrize("wipes", [1, 2, 3])
def test_nobody_is_forgotten_where_the_directory_is_deleted(wipes):
    """Everything holds, but for those of whom nobody at the new host knows yet."""
    for seed in range(1, WIPED):
        assert (seed, run(seed, wipes=wipes).failure) == (seed, "")


@pytest.mark.parametrize(("seed", "wipes"), [(5012865, 1), (5015066, 3)])
def test_nobody_is_forgotten_in_schedules_that_found_something(seed, wipes):
    assert run(seed, wipes=wipes).failure == ""


def number(word):
    """A part of a step as it was."""
    if word[0].isalpha():
        return word
    return float(word) if "." in word else int(word)


@pytest.mark.parametrize("part", range(PARTS))
def test_everything_holds_in_conversations(part):
    takeovers = 0
    for seed in range(1 + part, TALKS, PARTS):
        result = talk_schedule.run(seed)
        assert not result.failure, f"seed {seed}: {result.failure}"
        takeovers += result.takeovers
    assert takeovers > TALKS // PARTS // 5


@pytest.mark.parametrize("seed", [5013657, 5017739])
def test_everything_holds_in_conversations_that_found_something(seed):
    assert talk_schedule.run(seed).failure == ""


def test_a_seed_is_always_the_same_schedule():
    one, other = run(7), run(7)
    assert one == other
    assert replay(settings_of(7), one.steps)[1] == ""


def test_a_failing_schedule_becomes_short():
    steps = minimise(range(100), lambda steps: {17, 63} <= set(steps))
    assert steps == [17, 63]
