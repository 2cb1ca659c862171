"""Members, figures, locks and leadership, as a channel offers them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from open_channel import (
    Channel,
    ChannelClosed,
    Member,
    MemberChange,
    MemberChanges,
    WaitTimeout,
    open_channel,
)
from tests.bus.conftest import Joiner

DEADLINE = 20.0


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


async def by_wait_for(changes: MemberChanges, seconds: float) -> MemberChange:
    return await asyncio.wait_for(anext(changes), seconds)


async def by_timeout(changes: MemberChanges, seconds: float) -> MemberChange:
    async with asyncio.timeout(seconds):
        return await anext(changes)


async def by_get(changes: MemberChanges, seconds: float) -> MemberChange:
    async with asyncio.timeout(seconds):
        return await changes.get()


async def by_cancelling(changes: MemberChanges, seconds: float) -> MemberChange:
    task = asyncio.ensure_future(anext(changes))
    asyncio.get_running_loop().call_later(seconds, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise TimeoutError from None


@pytest.mark.parametrize("step", [by_wait_for, by_timeout, by_get, by_cancelling])
async def test_a_step_that_is_cancelled_loses_no_change_and_the_next_goes_on(
    join: Joiner, step: Callable[[MemberChanges, float], Awaitable[MemberChange]]
):
    shop = await join()
    changes = shop.watch_members()
    with pytest.raises(TimeoutError):
        await step(changes, 0.001)
    seen: list[MemberChange] = []

    async def watch() -> None:
        while len(seen) < 20:
            with contextlib.suppress(TimeoutError):
                seen.append(await step(changes, 1e-4))

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        group.create_task(watch())
        for _ in range(10):
            async with open_channel("shop", hosts=False):
                pass
    assert [change.kind for change in seen] == ["joined", "left"] * 10
    assert [change.member.id for change in seen[::2]] == [change.member.id for change in seen[1::2]]


async def test_steps_that_are_cancelled_leave_nothing_behind(join: Joiner):
    shop = await join()
    changes = shop.watch_members()
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await by_wait_for(changes, 1e-6)
    assert not changes._watch._readers.waiting


async def test_watching_counts_from_when_it_is_begun(join: Joiner):
    shop = await join()
    changes = shop.watch_members()
    other = await join(hosts=False)
    assert repr(changes) == "<MemberChanges 'shop', 1 to take>"
    async with asyncio.timeout(DEADLINE):
        change = await changes.get()
    assert (change.kind, change.member.id) == ("joined", other.member)
    await changes.aclose()
    assert repr(changes) == "<MemberChanges 'shop', 0 to take, ended>"


async def test_each_change_goes_to_one_of_several_tasks(join: Joiner):
    shop = await join()
    seen: list[MemberChange] = []
    async with shop.watch_members() as changes:

        async def watch() -> None:
            async for change in changes:
                seen.append(change)

        tasks = [asyncio.create_task(watch()) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(5):
            async with open_channel("shop", hosts=False):
                pass
        async with asyncio.timeout(DEADLINE):
            await until(lambda: len(seen) == 10)
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*tasks)
    assert sorted(change.kind for change in seen) == ["joined"] * 5 + ["left"] * 5
    assert len({(change.kind, change.member.id) for change in seen}) == 10


async def test_the_end_comes_behind_what_has_come_before(join: Joiner):
    shop = await join()
    changes, others = shop.watch_members(), shop.watch_members()
    async with open_channel("shop", hosts=False):
        pass
    async with asyncio.timeout(DEADLINE):
        await until(lambda: "2 to take" in repr(changes))
        await changes.aclose()
        await changes.aclose()
        async with open_channel("shop", hosts=False):
            pass
        assert [change.kind async for change in changes] == ["joined", "left"]
        with pytest.raises(ChannelClosed, match="the watching has ended"):
            await changes.get()
        await until(lambda: "4 to take" in repr(others))
        await shop.close()
        assert [change.kind async for change in others] == ["joined", "left"] * 2
        with pytest.raises(ChannelClosed, match="closed by this side"):
            await others.get()
    with pytest.raises(ChannelClosed):
        shop.watch_members()


async def close(shop: Channel) -> None:
    changes = shop.watch_members()
    await changes.aclose()


async def leave_the_block(shop: Channel) -> None:
    async with shop.watch_members():
        pass


async def leave_the_loop(shop: Channel) -> None:
    async with open_channel("shop", hosts=False):
        pass
    async for _ in shop.watch_members():
        break


async def forget(shop: Channel) -> None:
    shop.watch_members()


async def cancel_the_task(shop: Channel) -> None:
    async def watch() -> None:
        async for _ in shop.watch_members():
            pass

    task = asyncio.create_task(watch())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("end", [close, leave_the_block, leave_the_loop, forget, cancel_the_task])
async def test_watching_leaves_nothing_behind(
    join: Joiner, end: Callable[[Channel], Awaitable[None]]
):
    shop = await join()
    shop_bus: Any = shop._bus

    async def others() -> None:
        while True:
            async with open_channel("shop", hosts=False):
                pass

    coming_and_going = asyncio.create_task(others())
    async with asyncio.timeout(DEADLINE):
        await end(shop)
        gc.collect()  # once: it may take as long as a connection is waited for
        await until(lambda: not shop_bus.watches)
    coming_and_going.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await coming_and_going


async def test_a_task_that_watches_is_kept_though_nobody_else_knows_it(join: Joiner):
    shop = await join()
    seen = asyncio.Event()

    async def watch() -> None:
        async for _ in shop.watch_members():
            seen.set()

    known = weakref.ref(asyncio.ensure_future(watch()))
    await asyncio.sleep(0)
    gc.collect()
    await join(hosts=False)
    async with asyncio.timeout(DEADLINE):
        await seen.wait()
    assert known() is not None


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
