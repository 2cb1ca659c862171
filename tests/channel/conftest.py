"""Every asyncio test of this folder runs on asyncio's own event loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.channel.steps import DEADLINE, Opener

pytest.register_assert_rewrite(
    "tests.channel.conformance_opening", "tests.channel.conformance_talking"
)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def opened(channel_dir: Path) -> AsyncIterator[Opener]:
    """Give what opens channels, which are closed when the test is over.

    A test that takes too long is cancelled, since uvloop does not survive pytest-timeout's signal.
    """
    late = asyncio.get_running_loop().call_later(DEADLINE * 2, cancel_all)
    opener = Opener()
    yield opener
    await opener.close()
    late.cancel()


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel("the test takes too long")
