"""Every asyncio test of the bus runs on asyncio's own event loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import uvloop

from open_channel import Channel, open_channel

LIMIT = 40.0  # seconds; uvloop does not survive pytest-timeout's signal


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Joiner(Protocol):
    """Opens one more member of the channel "shop"; it is closed when the test is over."""

    async def __call__(self, **options: Any) -> Channel: ...


@pytest.fixture
async def join(channel_dir: Path) -> AsyncIterator[Joiner]:
    def cancel_all() -> None:
        for task in asyncio.all_tasks():
            task.cancel("the test takes too long")

    late = asyncio.get_running_loop().call_later(LIMIT, cancel_all)
    async with AsyncExitStack() as stack:

        async def enter(**options: Any) -> Channel:
            return await stack.enter_async_context(open_channel("shop", **options))

        yield enter
    late.cancel()
