"""The conformance tests of the bus on the blocking API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bus import conformance_bus, conformance_requests
from tests.sync.bus_flavour import Joiner


@pytest.fixture
async def join(channel_dir: Path) -> AsyncIterator[Joiner]:
    joiner = Joiner()
    yield joiner
    await joiner.close()


class TestPublishing(conformance_bus.Publishing):
    pass


class TestOverflowing(conformance_bus.Overflowing):
    pass


class TestRefusals(conformance_bus.Refusals):
    pass


class TestGroups(conformance_bus.Groups):
    pass


class TestRequests(conformance_requests.Requests):
    pass


class TestMembers(conformance_requests.Members):
    pass


class TestLocks(conformance_requests.Locks):
    pass
