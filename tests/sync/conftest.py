"""What the tests of the blocking API share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from open_channel.sync import Channel, open_channel

pytest.register_assert_rewrite(
    "tests.channel.conformance_opening",
    "tests.channel.conformance_talking",
)


@pytest.fixture
def opened(channel_dir: Path) -> Iterator[Callable[..., Channel]]:
    """Give what opens channels, which are closed when the test is over."""
    channels: list[Channel] = []

    def opener(*arguments: Any, **options: Any) -> Channel:
        channels.append(open_channel(*arguments, **options))
        return channels[-1]

    yield opener
    for channel in channels:
        channel.close(timeout=0)


@pytest.fixture
def join(opened: Callable[..., Channel]) -> Callable[..., Channel]:
    """Give what opens one more member of the channel "shop"."""
    return lambda **options: opened("shop", **options).__enter__()


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let threads alternate as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
