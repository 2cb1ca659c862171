"""Groups: each job to one member, done when it says so, another's when it dies."""

from __future__ import annotations

import asyncio

import pytest

from open_channel import Job, JobLost, Subscription
from tests.bus.conftest import Joiner


async def job(subscription: Subscription) -> Job:
    message = await subscription.get()
    assert isinstance(message, Job)
    return message


async def test_each_job_goes_to_one_member_of_each_group(join: Joiner):
    shop, one, two = await join(), await join(), await join(hosts=False)
    seen: list[tuple[str, int]] = []

    async def work(name: str, jobs: Subscription) -> None:
        async for message in jobs:
            seen.append((name, message.data))

    async with (
        one.subscribe("jobs", group="mailers") as a,
        two.subscribe("jobs", group="mailers") as b,
        two.subscribe("jobs", group="loggers") as c,
        one.subscribe("jobs") as everything,
    ):
        working = [
            asyncio.create_task(work(name, s)) for name, s in zip("abc", (a, b, c), strict=True)
        ]
        for number in range(300):
            await shop.publish("jobs", number)
        assert await shop.flush() == ()
        mailed = sorted(number for name, number in seen if name != "c")
        logged = [number for name, number in seen if name == "c"]
        assert mailed == logged == list(range(300))
        assert {name for name, _ in seen} == {"a", "b", "c"}
        assert [(await everything.get()).data for _ in range(300)] == list(range(300))
        for task in working:
            task.cancel()
        await asyncio.wait(working)


async def test_no_more_than_prefetch_are_in_hand(join: Joiner):
    shop, other = await join(), await join()
    async with other.subscribe("jobs", group="g", prefetch=3) as slow:
        for number in range(10):
            await shop.publish("jobs", number)
        first = await job(slow)
        async with shop.subscribe("jobs", group="g", prefetch=100) as quick:
            rest = [(await job(quick)).data for _ in range(7)]
            first.ack()
            assert first.data == 0
        assert rest == [3, 4, 5, 6, 7, 8, 9]


async def test_what_is_not_done_goes_to_another_marked_as_redelivered(join: Joiner):
    shop, other = await join(), await join()
    async with shop.subscribe("jobs", group="g") as second:
        async with other.subscribe("jobs", group="g", prefetch=1) as first:
            await shop.publish("jobs", "a")
            await shop.publish("jobs", "b")
            taken = await job(first)
            assert not taken.redelivered
            done = await job(second)
            assert {taken.data, done.data} == {"a", "b"}
            done.ack()
        again = await job(second)
        assert again.data == taken.data
        assert again.redelivered
        again.ack()
        assert await shop.flush() == ()


async def test_a_rejected_job_comes_again(join: Joiner):
    shop = await join()
    async with shop.subscribe("jobs", group="g") as jobs:
        await shop.publish("jobs", "a")
        first = await job(jobs)
        first.reject()
        first.reject()
        with pytest.raises(JobLost):
            first.ack()
        second = await job(jobs)
        assert second.data == "a"
        assert second.redelivered
        second.ack()
        second.ack()
        assert await shop.flush() == ()
        assert jobs.take() is None


async def test_jobs_of_a_member_that_closes_go_to_others(join: Joiner):
    shop = await join()
    leaving = await join(hosts=False)
    async with (
        leaving.subscribe("jobs", group="g") as theirs,
        shop.subscribe("jobs", group="g") as ours,
    ):
        for number in range(8):
            await shop.publish("jobs", number)
        in_hand = await job(theirs)
        await leaving.close()
        numbers = {(await job(ours)).data for _ in range(8)}
        assert numbers == set(range(8))
        assert in_hand.data in numbers
        assert ours.take() is None
        assert await shop.flush() == ()


async def test_a_group_without_members_gets_nothing(join: Joiner):
    shop = await join()
    assert await shop.publish("jobs", 1, confirm=True) == ()
    async with shop.subscribe("jobs", group="g") as jobs:
        await shop.publish("jobs", 2)
        assert (await job(jobs)).data == 2


async def test_jobs_that_nobody_finishes_do_not_stop_other_messages(join: Joiner):
    shop, other = await join(), await join()
    async with other.subscribe("jobs", group="g", prefetch=1), other.subscribe("t") as plain:
        for number in range(100):
            await shop.publish("jobs", number)
            await shop.publish("t", number)
        assert [(await plain.get()).data for _ in range(100)] == list(range(100))


async def test_jobs_come_one_by_one(join: Joiner):
    shop = await join()
    async with shop.subscribe("jobs", group="g") as jobs:
        with pytest.raises(TypeError):
            await anext(jobs.batches())
