"""A process that has no descriptor left for a while: what happens then is noticed afterwards."""

from __future__ import annotations

from tests.channel.programs import Programs

MEMBER = """
import asyncio
from open_channel import open_channel

async def main():
    async with open_channel("descriptors", hosts=False) as channel:
        async with channel.serve("slow", lambda _: asyncio.Event().wait()):
            async with channel.subscribe("jobs", group="workers") as jobs:
                print("ready", flush=True)
                await asyncio.Event().wait()

asyncio.run(main())
"""

HOST = f"""
import asyncio, os, resource, subprocess, sys
from open_channel import ResponderDied, open_channel

async def main():
    async with open_channel("descriptors") as channel:
        member = subprocess.Popen([sys.executable, "-c", {MEMBER!r}], stdout=subprocess.PIPE)
        await asyncio.to_thread(member.stdout.readline)
        asking = asyncio.create_task(channel.request("slow", timeout=None))
        await channel.publish("jobs", 1)
        await channel.request("$broker")  # it has what was said before
        bounds = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, bounds[1]))
        member.kill()
        await asyncio.sleep(0.3)
        assert len(channel.members) == 2
        resource.setrlimit(resource.RLIMIT_NOFILE, bounds)
        try:
            await asyncio.wait_for(asking, 20)
        except ResponderDied:
            print("died", flush=True)
        await asyncio.wait_for(channel.flush(), 20)
        print(len(channel.members), flush=True)
        member.wait()

asyncio.run(main())
"""


def test_a_death_that_could_not_be_looked_at_is_noticed_later(run: Programs):
    host = run(HOST)
    assert [host.line(), host.line()] == ["died", "1"]
    assert host.wait_end() == 0, host.errors()
    assert host.errors() == ""
