"""Three members and a broker, for the tests of the broker and of what it consists of."""

from __future__ import annotations

import pytest

from tests.bus.core.verbs import Bench, Member


@pytest.fixture
def members() -> list[Member]:
    """A publisher, and two that do its work."""
    return [Member(number) for number in (1, 2, 3)]


@pytest.fixture
def bench(members: list[Member]) -> Bench:
    """All of them in touch with a broker that expects nobody."""
    bench = Bench(*members)
    assert bench.broker.settled
    return bench
