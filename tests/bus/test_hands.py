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
