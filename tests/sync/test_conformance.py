"""The conformance tests on the blocking API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channel import conformance_opening, conformance_talking
from tests.sync.flavour import Opener


@pytest.fixture
def api(channel_dir: Path) -> Iterator[Opener]:
    opener = Opener()
    yield opener
    opener.close()


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
