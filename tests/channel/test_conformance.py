"""The conformance tests on the asyncio API; the conftest runs them on two event loops."""

from __future__ import annotations

import pytest

from tests.channel import conformance
from tests.channel.steps import Opener


@pytest.fixture
async def api(opened: Opener) -> Opener:
    return opened


class TestOpening(conformance.Opening):
    pass


class TestTimeouts(conformance.Timeouts):
    pass


class TestNames(conformance.Names):
    pass


class TestMessages(conformance.Messages):
    pass


class TestEnds(conformance.Ends):
    pass


class TestListeners(conformance.Listeners):
    pass
