"""The conformance tests on the blocking API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.channel import conformance
from tests.sync.flavour import Opener


@pytest.fixture
def api(channel_dir: Path) -> Iterator[Opener]:
    opener = Opener()
    yield opener
    opener.close()


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
