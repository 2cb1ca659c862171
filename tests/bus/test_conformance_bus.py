"""The conformance tests of the bus on the asyncio API; the conftest runs them on two loops."""

from __future__ import annotations

from tests.bus import conformance_bus, conformance_requests


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
