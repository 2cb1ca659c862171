"""The conformance tests of the bus on the asyncio API; the conftest runs them on two loops."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus import conformance_bus, conformance_requests
from tests.channel.programs import Programs


@pytest.fixture
def run(channel_dir: Path) -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.end()


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
