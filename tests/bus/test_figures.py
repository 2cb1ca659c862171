"""What the broker says of itself."""

from __future__ import annotations

import asyncio

from tests.bus.conftest import Joiner


async def test_it_says_who_is_here_and_what_they_have(join: Joiner):
    host, other = await join(), await join(hosts=False)
    async with other.subscribe("a"), other.subscribe("b", group="g", prefetch=1) as jobs:
        await host.publish("b", b"work")
        await host.publish("b", b"more")
        await jobs.get()
        figures = await host.request("$broker")
    assert figures["groups"] == [
        {"group": "g", "pattern": "b", "consumers": 1, "waiting": 1, "in_hand": 1}
    ]
    assert figures["settled"]
    assert set(figures["members"]) == {host.member, other.member}
    mine = figures["members"][other.member]
    assert (mine["subscriptions"], mine["jobs"], mine["left_out"], mine["away"]) == (2, 1, 0, 0)
    assert figures["routed"] >= 2  # the job, and the request itself
    assert figures["dropped"] == 0


async def test_it_can_be_asked_again_and_by_anybody(join: Joiner):
    members = [await join(), await join(hosts=False)]
    for _ in range(3):
        for member in members:
            assert len((await member.request("$broker"))["members"]) == 2
    assert members[0].stats().unacknowledged == 0


async def test_another_host_answers_too(join: Joiner):
    first, second, third = await join(), await join(), await join(hosts=False)
    assert len((await third.request("$broker"))["members"]) == 3
    await first.close()
    async with asyncio.timeout(20):
        while len((await third.request("$broker"))["members"]) != 2:
            pass
    assert set((await third.request("$broker"))["members"]) == {second.member, third.member}


async def test_nobody_can_serve_it_in_its_place(join: Joiner):
    shop = await join()
    async with shop.serve("$broker", lambda request: "mine"):
        assert "members" in await shop.request("$broker")


async def test_all_who_serve_it_are_those_who_said_so(join: Joiner):
    shop = await join()
    assert await shop.request_all("$broker", timeout=5.0) == {}
