"""Members, figures, locks and leadership, as a channel offers them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from typing import Any

import msgspec
import pytest

from open_channel import Member, MemberChange, WaitTimeout, open_channel
from tests.bus.conftest import Joiner


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_everybody_sees_everybody(join: Joiner):
    shop = await join(labels={"role": "web"})
    other = await join(hosts=False)
    await until(lambda: len(shop.members) == len(other.members) == 2)
    mine, theirs = sorted(shop.members, key=lambda member: member.id != shop.member)
    assert mine.labels == {"role": "web"}
    assert mine.pid == theirs.pid == os.getpid()
    assert mine.hosting == {"broker"}
    assert theirs.id == other.member
    assert theirs.hosting == frozenset()
    assert theirs.labels == {}


async def test_the_listeners_host_is_seen(join: Joiner):
    shop = await join()
    async with open_channel("shop", lambda socket: None) as listening:
        socket = listening.connect()
        await socket.wait_connected()
        await until(lambda: len(shop.members) == 2)
        hosting = {member.id: member.hosting for member in shop.members}
        assert hosting == {shop.member: {"broker"}, listening.member: {"listener"}}


async def test_members_are_watched(join: Joiner):
    shop = await join()
    changes: list[MemberChange] = []

    async def watch() -> None:
        async for change in shop.watch_members():
            changes.append(change)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    async with open_channel("shop", labels={"a": "b"}) as other:
        await until(lambda: len(changes) == 1)
    await until(lambda: len(changes) == 2)
    assert [change.kind for change in changes] == ["joined", "left"]
    assert {change.member.id for change in changes} == {other.member}
    assert changes[1].member.labels == {"a": "b"}
    await shop.close()
    await watching


# --- as values ------------------------------------------------------------------------------------


def member(**facts: Any) -> Member:
    known = {"id": "ab" * 16, "pid": 7, "hosting": frozenset({"broker"}), "labels": {"a": "b"}}
    return Member(**{**known, **facts})


async def test_members_and_changes_can_be_in_sets(join: Joiner):
    shop, other = await join(labels={"role": "web"}), await join(hosts=False)
    await until(lambda: len(shop.members) == 2)
    assert set(shop.members) == set(shop.members)
    assert {member.id for member in set(shop.members)} == {shop.member, other.member}


def test_what_is_equal_has_equal_hashes():
    assert member() == member()
    assert hash(member()) == hash(member())
    assert len({member(), member(), member(pid=8), member(labels={}), member(hosting=())}) == 4
    joined, again = MemberChange("joined", member()), MemberChange("joined", member())
    assert joined == again
    assert len({joined, again, MemberChange("left", member())}) == 2


def test_a_member_can_be_decoded():
    data = msgspec.json.encode(MemberChange("left", member()))
    assert msgspec.json.decode(data, type=MemberChange) == MemberChange("left", member())


async def test_members_can_be_asked_for(join: Joiner):
    shop = await join(labels={"role": "web"})
    async with shop.serve("who", lambda _: shop.members):
        assert await shop.request("who", type=list[Member]) == shop.members


# --- the bus, locks -------------------------------------------------------------------------------


async def test_the_broker_is_handed_over(join: Joiner):
    first = await join()
    second = await join()
    third = await join(hosts=False)
    async with third.subscribe("t") as subscription:
        await first.close()
        for number in range(10):
            await second.publish("t", number)
        assert [(await subscription.get()).data for _ in range(10)] == list(range(10))
    assert third.stats().takeovers == 1
    assert third.stats().epoch == 2
    await until(lambda: {member.id for member in third.members} == {second.member, third.member})


async def test_figures_are_frozen(join: Joiner):
    shop = await join()
    stats = shop.stats()
    assert stats.epoch == 1
    assert stats.members == 1
    assert stats.round_trip is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.epoch = 2  # type: ignore[misc]
    await shop.flush()
    round_trip = shop.stats().round_trip
    assert round_trip is not None
    assert round_trip >= 0


async def test_locks_of_a_channel(join: Joiner):
    shop, other = await join(), await join()
    async with shop.lock("nightly"):
        with pytest.raises(WaitTimeout):
            async with other.lock("nightly", timeout=0.0):
                pass
        async with other.lock("daily", timeout=0.0):
            pass
    async with other.lock("nightly", timeout=5.0):
        pass


async def test_one_leads(join: Joiner):
    shop, other = await join(), await join()
    leading: list[str] = []
    done = asyncio.Event()

    async def run() -> str:
        leading.append("shop")
        await done.wait()
        return "result"

    async def run_other() -> None:
        leading.append("other")

    first = asyncio.create_task(shop.lead("scheduler", run))
    await until(lambda: leading)
    second = asyncio.create_task(other.lead("scheduler", run_other))
    done.set()
    assert await first == "result"
    await second
    assert leading == ["shop", "other"]
