"""Every step of every table is taken, by a few chosen schedules and scenes; and no other is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation import talk_schedule
from tests.simulation.coverage import forget, steps_taken, unwatch, watch
from tests.simulation.rare import RARE
from tests.simulation.schedule import run
from tests.simulation.tables import TABLES

# Found by looking which of some thousands of schedules take which steps. After a change of how
# steps are chosen: run tools/simulate.py, which names a schedule for each step.
CHOSEN = (
    *(72, 380, 40063, 40070, 40127, 40205, 40259, 40289, 41242, 45248),
    *(30001, 30005, 30006, 30007, 30008, 30010, 30011, 30013, 30019, 30023, 30034, 30039),
    *(30069, 30085, 30123, 30145, 30167, 30177, 30212, 30218, 30240, 30292, 30326, 30365),
    *(30422, 30434, 30510, 30564, 30743, 30767, 31098, 31113, 31145, 31809, 32130, 32195),
    *(33861, 50010, 50238, 50770),
)
DELETIONS = ((5012865, 1),)
"""(seed, how often the directory is deleted)."""
TALKS = range(1, 200)


@pytest.mark.parametrize(("scene", "arguments"), RARE)
def test_rare_scenes(scene, arguments):
    scene(*arguments)


@pytest.fixture
def watching() -> Iterator[None]:
    forget()
    watch()
    yield
    unwatch()


@pytest.mark.usefixtures("watching")
def test_every_step_of_every_table_is_taken():
    for seed in CHOSEN:
        assert run(seed).failure == ""
    for seed, wipes in DELETIONS:
        assert run(seed, wipes=wipes).failure == ""
    for seed in TALKS:
        assert talk_schedule.run(seed).failure == ""
    for scene, arguments in RARE:
        scene(*arguments)
    taken = set(steps_taken())
    assert sorted(taken - TABLES) == []
    assert sorted(TABLES - taken) == []
