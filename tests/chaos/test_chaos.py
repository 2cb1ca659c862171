"""Everything at once, with real processes: whatever can befall one does; the ledgers decide.

``make chaos SECONDS=100 SEED=7`` does the same for longer. The seed that this test prints repeats
what happens, not when exactly.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.chaos.report import report
from tests.chaos.run import chaos

SECONDS = 120.0
"""How long things happen; what it takes to begin and to end in order comes on top."""

SEED = int(os.environ.get("CHAOS_SEED", "0")) or time.time_ns() % (1 << 32)


@pytest.mark.timeout(300)
def test_nothing_is_lost_whatever_befalls_the_processes():
    result = chaos(SEED, SECONDS)
    print(*report(result), sep="\n")
    assert result.violations == []
