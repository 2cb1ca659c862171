"""The simulation can fail: each broken core is found within a few hundred schedules."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Break
from tests.simulation.schedule import run

BOUND = 300  # the slowest is found by the 178th
OUR_OWN = "it raises RemoteProtocolError"  # of all that is raised this alone is a broken rule


@pytest.mark.parametrize("break_it", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_a_broken_core_is_found(break_it: Break, monkeypatch: pytest.MonkeyPatch):
    break_it(monkeypatch)
    failures = (run(seed).failure for seed in range(1, BOUND))
    found = next((failure for failure in failures if failure), "")
    assert found
    assert not found.startswith("it raises") or found.startswith(OUR_OWN)
