"""What the parts of the demonstration's processes have in common.

A process tells the supervisor what happens in lines of JSON on its standard output. One that is
told to stop by a line on its standard input finishes and reports for the last time. Any process
leaves when its standard input ends, so that none outlives the supervisor.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any

from open_channel import Limits

__all__ = ["FLUSH", "LIMITS", "REPORT", "START", "forever", "say", "until_first"]

START = 20.0
"""Seconds that a process may take until it is connected."""
FLUSH = 20.0
"""Seconds that a process waits for the last messages."""
REPORT = 0.2
"""Seconds between two reports of a process."""

LIMITS = Limits(window=512 * 1024, drain=512 * 1024)
"""Less in flight than the defaults allow: what is in flight comes again after a kill, and a
terminal shows takeovers better than queues."""


def say(**facts: Any) -> None:
    """Tell the supervisor."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def forever(task: asyncio.Future[None]) -> None:
    """End as the task does when it fails, and not at all when it is merely done."""
    await task
    await asyncio.get_running_loop().create_future()


async def until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until one ends; raise what it raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        task.result()
