"""The conformance tests on the asyncio API; the conftest runs them on two event loops."""

from __future__ import annotations

import pytest

from tests.channel import conformance_opening, conformance_talking
from tests.channel.steps import Opener


@pytest.fixture
async def api(opened: Opener) -> Opener:
    return opened


class TestOpening(conformance_opening.Opening):
    pass


class TestTimeouts(conformance_opening.Timeouts):
    pass


class TestNames(conformance_opening.Names):
    pass


class TestMessages(conformance_talking.Messages):
    pass


class TestEnds(conformance_talking.Ends):
    pass


class TestListeners(conformance_talking.Listeners):
    pass
