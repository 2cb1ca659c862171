"""``Waiter`` alone: what awaits it goes on once, in the right turn and the right context.

And several of them.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from open_channel.channel.waiter import Waiter, Waiters


@pytest.fixture
async def waiter() -> Waiter:
    return Waiter(asyncio.get_running_loop())


async def started(waiter: Waiter, steps: list[str] | None = None) -> asyncio.Task[None]:
    """A task that waits, has begun to, and leaves a note when it goes on."""

    async def wait() -> None:
        await waiter
        if steps is not None:
            steps.append("went on")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("message", [(), ("why",)])
async def test_cancelled_with_a_message_it_passes_that_on(waiter: Waiter, message: tuple[str, ...]):
    task = await started(waiter)
    task.cancel(*message)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == message


async def test_woken_before_it_is_awaited_it_does_not_wait(waiter: Waiter):
    waiter.wake()
    await waiter


async def test_woken_now_the_task_goes_on_in_the_same_turn(waiter: Waiter):
    steps: list[str] = []
    task = await started(waiter, steps)

    def event() -> None:
        steps.append("event")
        waiter.wake(now=True)
        steps.append("after")

    asyncio.get_running_loop().call_soon(event)
    asyncio.get_running_loop().call_soon(steps.append, "next callback")
    await task
    assert steps == ["event", "went on", "after", "next callback"]


async def test_woken_otherwise_it_goes_on_in_the_next_turn(waiter: Waiter):
    steps: list[str] = []
    task = await started(waiter, steps)
    waiter.wake()
    steps.append("after")
    await task
    assert steps == ["after", "went on"]


async def test_waking_again_does_nothing(waiter: Waiter):
    task = await started(waiter)
    waiter.wake()
    waiter.wake()
    await task
    waiter.wake()


@pytest.mark.parametrize("now", [True, False])
async def test_the_task_goes_on_in_its_own_context(waiter: Waiter, now: bool):
    place: ContextVar[str] = ContextVar("place", default="nowhere")
    seen: list[str] = []

    async def wait() -> None:
        place.set("the task's")
        await waiter
        seen.append(place.get())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)

    def event() -> None:
        place.set("the event's")
        waiter.wake(now=now)
        seen.append(place.get())

    asyncio.get_running_loop().call_soon(event)
    await task
    assert sorted(seen) == ["the event's", "the task's"]
    assert place.get() == "nowhere"


async def test_the_task_knows_itself_when_it_goes_on(waiter: Waiter):
    seen: list[asyncio.Task[None] | None] = []

    async def wait() -> None:
        await waiter
        seen.append(asyncio.current_task())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)

    def event() -> None:
        waiter.wake(now=True)
        seen.append(asyncio.current_task())

    asyncio.get_running_loop().call_soon(event)
    await task
    assert seen == [task, None]


async def test_a_cancelled_task_stops_waiting(waiter: Waiter):
    task = await started(waiter)
    task.cancel("why")
    await asyncio.wait([task])
    assert task.cancelled()
    waiter.wake()  # too late, and harmless


@pytest.mark.parametrize("steps", [("wake", "cancel"), ("cancel", "wake")])
async def test_woken_and_cancelled_in_the_same_turn_it_is_cancelled(
    waiter: Waiter, steps: tuple[str, ...]
):
    notes: list[str] = []
    task = await started(waiter, notes)
    for step in steps:
        if step == "wake":
            waiter.wake()
        else:
            task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert notes == []


async def test_woken_now_it_is_done_before_it_can_be_cancelled(waiter: Waiter):
    notes: list[str] = []
    task = await started(waiter, notes)

    def event() -> None:
        waiter.wake(now=True)
        task.cancel()

    asyncio.get_running_loop().call_soon(event)
    await asyncio.wait([task])
    assert not task.cancelled()
    assert notes == ["went on"]


async def test_cancelled_it_is_not_woken_now(waiter: Waiter):
    task = await started(waiter)

    def event() -> None:
        task.cancel()
        waiter.wake(now=True)

    asyncio.get_running_loop().call_soon(event)
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_timeout_ends_the_wait(waiter: Waiter):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await waiter


async def test_who_is_woken_may_wake_others(waiter: Waiter):
    loop = asyncio.get_running_loop()
    second = Waiter(loop)
    steps: list[str] = []

    async def wait() -> None:
        await waiter
        second.wake()
        steps.append("first")

    first_task = asyncio.create_task(wait())
    second_task = await started(second, steps)
    await asyncio.sleep(0)
    loop.call_soon(lambda: waiter.wake(now=True))
    await asyncio.gather(first_task, second_task)
    assert steps == ["first", "went on"]


async def test_a_task_that_fails_when_woken_does_not_harm_who_woke_it(waiter: Waiter):
    async def wait() -> None:
        await waiter
        raise LookupError

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    done = asyncio.Event()

    def event() -> None:
        waiter.wake(now=True)
        done.set()

    asyncio.get_running_loop().call_soon(event)
    await done.wait()
    with pytest.raises(LookupError):
        await task


async def test_a_task_that_waits_can_be_inspected(waiter: Waiter):
    asyncio.get_running_loop().set_debug(True)
    task = await started(waiter)
    assert "Waiter" in repr(task)
    assert task.get_stack()
    waiter.wake()
    await task


# --- several --------------------------------------------------------------------------------------


@pytest.mark.parametrize("now", [True, False])
async def test_all_who_wait_are_woken(now: bool):
    waiters, loop = Waiters(), asyncio.get_running_loop()
    tasks = [asyncio.create_task(waiters.wait(loop)) for _ in range(3)]
    await asyncio.sleep(0)
    assert len(waiters.waiting) == 3
    loop.call_soon(lambda: waiters.wake(now=now))
    await asyncio.gather(*tasks)
    assert len(waiters.waiting) == 0


async def test_who_is_woken_may_wait_again():
    waiters, loop = Waiters(), asyncio.get_running_loop()
    again = asyncio.Event()

    async def wait_twice() -> None:
        await waiters.wait(loop)
        again.set()
        await waiters.wait(loop)

    task = asyncio.create_task(wait_twice())
    await asyncio.sleep(0)
    loop.call_soon(lambda: waiters.wake(now=True))
    await again.wait()
    assert len(waiters.waiting) == 1
    waiters.wake()
    await task


async def test_who_is_cancelled_is_forgotten_and_the_others_wait_on():
    waiters, loop = Waiters(), asyncio.get_running_loop()
    first, second = (asyncio.create_task(waiters.wait(loop)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(waiters.waiting) == 1
    assert not second.done()
    waiters.wake()
    await second
