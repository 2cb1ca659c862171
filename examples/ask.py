"""Workers that answer questions about themselves.

python examples/ask.py work     (in several terminals)
python examples/ask.py          (asks them all, then the oldest alone)
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from open_channel import Message, RequestError, open_channel

STARTED = time.monotonic()


def about(_: Message) -> dict[str, Any]:
    return {"pid": os.getpid(), "age": time.monotonic() - STARTED}


async def tasks(_: Message) -> list[str]:
    return sorted(task.get_name() for task in asyncio.all_tasks())


async def work() -> None:
    async with (
        open_channel("examples.ask", labels={"role": "worker"}) as channel,
        channel.serve("worker.about", about),
        channel.serve("worker.tasks", tasks),
    ):
        print(f"pid {os.getpid()} works", flush=True)
        await asyncio.Event().wait()


async def ask() -> None:
    async with open_channel("examples.ask") as channel:
        found = await channel.request_all("worker.about", timeout=2.0)
        # Who failed stands in the dictionary with its error.
        workers = {member: reply for member, reply in found.items() if isinstance(reply, dict)}
        for reply in workers.values():
            print(f"pid {reply['pid']}: {reply['age']:.1f} s old", flush=True)
        if not workers:
            print("nobody works", flush=True)
            return
        oldest = max(workers, key=lambda member: workers[member]["age"])
        try:
            names = await channel.request("worker.tasks", to=oldest, timeout=2.0)
        except RequestError as error:  # it has died since, say
            print(error, flush=True)
        else:
            print(f"pid {workers[oldest]['pid']} has {len(names)} tasks", flush=True)


if __name__ == "__main__":
    asyncio.run(work() if sys.argv[1:] == ["work"] else ask())
