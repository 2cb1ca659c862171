"""What a consumer of a group has in hand, and when that is done."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from open_channel import Job, Message, Subscription
from tests.bus.conftest import Joiner
from tests.channel.steps import eventually

DEADLINE = 10.0


async def next_of(jobs: Subscription) -> Any:
    async for job in jobs:
        return job
    raise AssertionError


async def left_by_break(jobs: Subscription) -> Any:
    taken: Message | None = None
    async for job in jobs:
        taken = job
        break
    return taken


async def waited_for(jobs: Subscription) -> Any:
    return await asyncio.wait_for(jobs.get(), DEADLINE)


async def waited_for_as_a_whole(jobs: Subscription) -> Any:
    return await asyncio.wait_for(next_of(jobs), DEADLINE)


async def got(jobs: Subscription) -> Any:
    return await jobs.get()


@pytest.mark.parametrize("ask", [got, next_of, left_by_break, waited_for, waited_for_as_a_whole])
async def test_asking_again_says_that_the_one_before_is_done(join: Joiner, ask: Any):
    shop = await join()
    async with shop.subscribe("jobs", group="g", prefetch=1) as jobs, asyncio.timeout(DEADLINE):
        for number in range(5):
            shop.publish_nowait("jobs", number)
        assert [(await ask(jobs)).data for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_the_ways_of_asking_may_alternate(join: Joiner):
    shop = await join()
    ways = [got, waited_for, left_by_break, waited_for, waited_for, got, next_of, got]
    async with shop.subscribe("jobs", group="g", prefetch=1) as jobs, asyncio.timeout(DEADLINE):
        for number in range(8):
            shop.publish_nowait("jobs", number)
        assert [(await ask(jobs)).data for ask in ways] == list(range(8))


@pytest.mark.parametrize("ask", [got, next_of, left_by_break, waited_for])
async def test_a_job_is_not_done_because_another_task_asks(join: Joiner, ask: Any):
    shop = await join()
    go_on = asyncio.Event()
    begun: list[Job] = []
    async with shop.subscribe("jobs", group="g") as jobs, asyncio.timeout(DEADLINE):
        for number in range(4):
            shop.publish_nowait("jobs", number)

        async def work() -> Job:
            job: Job = await ask(jobs)
            begun.append(job)
            await go_on.wait()
            job.reject()
            return job

        working = asyncio.create_task(work())
        await eventually(lambda: begun)
        rest = [(await ask(jobs)).data for _ in range(3)]
        go_on.set()
        first = await working
        again = await ask(jobs)
    assert [first.data, *rest] == [0, 1, 2, 3]
    assert (again.data, again.redelivered) == (0, True)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_what_a_task_had_in_hand_that_did_not_end_well_goes_back(join: Joiner, how: str):
    shop, other = await join(), await join()
    async with other.subscribe("jobs", group="g") as others:
        async with shop.subscribe("jobs", group="g") as jobs:
            shop.publish_nowait("jobs", "first")
            begun = asyncio.Event()

            async def work() -> None:
                await jobs.get()
                begun.set()
                if how == "fails":
                    raise ValueError
                await asyncio.sleep(DEADLINE)

            working = asyncio.create_task(work())
            await eventually(lambda: begun.is_set() or bool(others.take()))
            if not begun.is_set():  # the other was first: another one for this one
                shop.publish_nowait("jobs", "first")
                await begun.wait()
            working.cancel()
            done = await asyncio.gather(working, return_exceptions=True)
            assert isinstance(done[0], ValueError | asyncio.CancelledError)
            for number in range(3):
                shop.publish_nowait("jobs", number)
            for _ in range(2):
                await asyncio.wait((asyncio.ensure_future(next_of(jobs)),), timeout=0.05)
        back: list[Any] = []
        async with asyncio.timeout(DEADLINE):
            while "first" not in [job.data for job in back if job.redelivered]:
                back.append(await others.get())


async def test_nobody_keeps_silent_about_a_task_that_failed(join: Joiner):
    """Asyncio says so when nobody has asked for a task's exception; this does not ask."""
    shop = await join()
    said: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: said.append(context["message"]))
    async with shop.subscribe("jobs", group="g") as jobs, asyncio.timeout(DEADLINE):
        for number in range(2):
            shop.publish_nowait("jobs", number)

        async def work() -> None:
            await jobs.get()
            raise ValueError

        working = asyncio.create_task(work())
        await asyncio.wait((working,))
        await jobs.get()
        del working
        await eventually(lambda: gc.collect() and said)
    assert said == ["Task exception was never retrieved"]


# --- ack="manual" ---------------------------------------------------------------------------------


async def test_who_acknowledges_by_hand_may_give_jobs_to_others(join: Joiner):
    """Each is done when whoever has it says so, and not before, in whatever order they do."""
    shop = await join()
    done: list[int] = []

    async def work(job: Job, last: asyncio.Event, mine: asyncio.Event) -> None:
        await last.wait()
        done.append(job.data)
        job.ack()
        mine.set()

    async with (
        shop.subscribe("jobs", group="g", ack="manual", prefetch=4) as jobs,
        asyncio.timeout(DEADLINE),
    ):
        for number in range(4):
            shop.publish_nowait("jobs", number)
        flushed = asyncio.create_task(shop.flush())
        taken = [await ask(jobs) for ask in (got, next_of, left_by_break, waited_for)]
        assert [job.data for job in taken] == [0, 1, 2, 3]
        ready = [asyncio.Event() for _ in range(5)]
        tasks = [
            asyncio.create_task(work(job, ready[number + 1], ready[number]))
            for number, job in enumerate(taken)
        ]
        await shop.publish("other", confirm=True)
        assert not flushed.done()  # though each was asked for after another
        ready[-1].set()
        await flushed
        assert done == [3, 2, 1, 0]
        await asyncio.gather(*tasks)


async def test_no_more_than_prefetch_are_in_hand(join: Joiner):
    shop = await join()
    async with (
        shop.subscribe("jobs", group="g", ack="manual", prefetch=2) as jobs,
        asyncio.timeout(DEADLINE),
    ):
        for number in range(4):
            shop.publish_nowait("jobs", number)
        first, second = await jobs.get(), await jobs.get()
        third = asyncio.create_task(jobs.get())
        await shop.publish("other", confirm=True)
        assert not third.done()
        second.ack()
        assert (await third).data == 2
        first.reject()
        came: dict[int, bool] = {}
        for _ in range(2):
            job = await jobs.get()
            came[job.data] = job.redelivered
            job.ack()
        assert came == {0: True, 3: False}


async def test_what_was_taken_and_not_acknowledged_goes_to_another(join: Joiner):
    one, other = await join(), await join()
    async with one.subscribe("jobs", group="g", ack="manual") as jobs, asyncio.timeout(DEADLINE):
        for number in range(3):
            one.publish_nowait("jobs", number)
        taken = [await jobs.get() for _ in range(3)]
        taken[1].ack()
        async with other.subscribe("jobs", group="g") as more:
            async with one.subscribe("other"):
                pass
            await one.publish("other", confirm=True)
            await _leave(jobs)
            assert sorted([(await more.get()).data, (await more.get()).data]) == [0, 2]
        assert taken[0].lost


async def _leave(jobs: Subscription[Any]) -> None:
    await jobs.__aexit__(None, None, None)


async def test_nothing_is_kept_of_jobs_that_were_acknowledged(join: Joiner):
    """By the hands that they did not go through."""
    shop = await join()
    async with (
        shop.subscribe("jobs", group="g", ack="manual", prefetch=1) as jobs,
        asyncio.timeout(DEADLINE),
    ):
        for number in range(20):
            shop.publish_nowait("jobs", number)
        async for job in jobs:
            job.ack()
            if job.data == 19:
                break
        await shop.flush()
        del job
        gc.collect()
        assert not [one for one in gc.get_objects() if type(one) is Job]


async def test_another_way_to_acknowledge_is_none(join: Joiner):
    shop = await join()
    for wrong in "auto", "", None, ["next"]:
        with pytest.raises((ValueError, TypeError), match=r"ack is next or manual|unhashable"):
            shop.subscribe("jobs", group="g", ack=wrong)  # type: ignore[call-overload]
