"""A scheduler that runs in one process, whichever that is.

    python examples/scheduler.py

Run it in several terminals: one of them does the work. End that one, however you like, and another
goes on within milliseconds.
"""

from __future__ import annotations

import asyncio
import os

from open_channel import open_channel

EVERY = 0.5  # seconds


async def schedule() -> None:
    """Do what is due, for ever; called in the process that leads."""
    while True:
        print(f"pid {os.getpid()} does what is due", flush=True)
        await asyncio.sleep(EVERY)


async def main() -> None:
    print(f"pid {os.getpid()} is here", flush=True)
    await open_channel("examples.scheduler").lead("scheduler", schedule)


if __name__ == "__main__":
    asyncio.run(main())
