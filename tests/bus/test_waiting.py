"""Who waits: for room, in order; for one message to arrive, and for nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from open_channel import (
    Channel,
    ChannelClosed,
    Limits,
    Message,
    OutboxFull,
    RequestTimeout,
    Subscription,
)
from tests.bus.conftest import Joiner

DEADLINE = 10.0

NARROW = Limits(
    outbox=300_000, drain=100_000, window=65536, max_message=200_000, shared=0, queue=1000
)


def echo(request: Message) -> bytes:
    return request.body


def fill(channel: Channel, topic: str) -> int:
    """Publish until no more goes; return how many bytes went."""
    size = 0
    with contextlib.suppress(OutboxFull):
        while True:
            channel.publish_nowait(topic, bytes(1000))
            size += 1004
    return size


async def test_who_waits_for_room_publishes_in_the_order_in_which_they_came(join: Joiner):
    shop, other = await join(limits=NARROW), await join(limits=NARROW)
    async with other.subscribe("t", overflow="block") as slow:
        fill(shop, "t")
        waiting: list[asyncio.Task[tuple[str, ...]]] = []
        for number in range(20):
            # Small ones and large ones: what fits does not overtake what does not.
            body = number.to_bytes(2, "big") + bytes(150_000 * (number % 5 == 0))
            waiting.append(asyncio.create_task(shop.publish("t", body)))
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        seen: list[int] = []
        async with asyncio.timeout(DEADLINE):
            while len(seen) < 20:
                message = await slow.get()
                if len(message.body) != 1000:
                    seen.append(int.from_bytes(message.body[:2], "big"))
        await asyncio.gather(*waiting)
    assert seen == list(range(20))


async def test_nobody_overtakes_who_waits_for_room(join: Joiner):
    shop, other = await join(limits=NARROW), await join(limits=NARROW)
    async with other.subscribe("t", overflow="block") as slow:
        for _ in range(120):
            shop.publish_nowait("t", bytes(1000))
        # Beside these the small one fits, and more may be appended as they are.
        waiting = [asyncio.create_task(shop.publish("t", bytes(size))) for size in (190_000, 5)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        sizes: list[int] = []
        async with asyncio.timeout(DEADLINE):
            while len(sizes) < 122:
                sizes.append(len((await slow.get()).body))
        await asyncio.gather(*waiting)
    assert sizes[120:] == [190_000, 5]


async def test_who_no_longer_waits_lets_the_next_one_go(join: Joiner):
    shop, other = await join(limits=NARROW), await join(limits=NARROW)
    async with other.subscribe("t", overflow="block") as slow:
        fill(shop, "t")
        waiting = [asyncio.create_task(shop.publish("t", b"%d" % n)) for n in range(4)]
        await asyncio.sleep(0)
        for task in (waiting[0], waiting[2]):
            task.cancel()
        seen: list[bytes] = []
        async with asyncio.timeout(DEADLINE):
            while len(seen) < 2:
                message = await slow.get()
                if len(message.body) != 1000:
                    seen.append(message.body)
        done = await asyncio.gather(*waiting, return_exceptions=True)
    assert seen == [b"1", b"3"]
    assert [type(one) for one in done] == [asyncio.CancelledError, tuple] * 2


async def test_several_that_publish_in_loops_take_turns_and_leave_in_batches(join: Joiner):
    shop = await join()
    bus = shop._bus
    assert bus is not None
    counts = [0, 0, 0]
    halfway: list[int] = []

    async def loop(number: int) -> None:
        for _ in range(20_000):
            await shop.publish("t", bytes(100))
            counts[number] += 1
            if counts[number] == 10_000 and not halfway:
                halfway.extend(counts)

    before = bus._outbox.batches
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*map(loop, range(3)))
        await shop.flush()
    # One alone makes a batch of 64 KiB; when each message was a turn's, it was one for each.
    assert bus._outbox.batches - before < 60_000 / 100
    assert min(halfway) > 5_000


async def test_many_that_publish_once_leave_in_batches(join: Joiner):
    shop, other = await join(), await join()
    bus = shop._bus
    assert bus is not None
    async with other.subscribe("t", queue=1 << 24) as all_of_them, asyncio.timeout(DEADLINE):
        before = bus._outbox.batches
        await asyncio.gather(*(shop.publish("t", b"%0100d" % n) for n in range(10_000)))
        assert bus._outbox.batches - before < 10_000 / 100
        bodies = [(await all_of_them.get()).body for _ in range(10_000)]
    assert bodies == [b"%0100d" % number for number in range(10_000)]


async def test_requests_leave_in_the_order_in_which_they_were_made(join: Joiner):
    shop, other = await join(limits=NARROW), await join(limits=NARROW)
    seen: list[int] = []

    async def handler(request: Message) -> bytes:
        seen.append(int.from_bytes(request.body[:2], "big"))
        await asyncio.sleep(0)
        return b""

    async with other.serve("f", handler, concurrency=1), asyncio.timeout(DEADLINE):
        bodies = [number.to_bytes(2, "big") + bytes(10_000) for number in range(100)]
        await asyncio.gather(*(shop.request("f", body, timeout=None) for body in bodies))
    assert seen == list(range(100))


@pytest.mark.parametrize("outbox", [70_000, 200_000, 500_000])
async def test_no_more_than_the_outbox_is_held(join: Joiner, outbox: int):
    limits = Limits(outbox=outbox, drain=50_000, window=65536, shared=0)
    shop, other = await join(limits=limits), await join(limits=limits)
    async with other.subscribe("t", overflow="block", queue=10):
        assert outbox - 10_000 < fill(shop, "t") <= outbox


async def test_waiting_for_room_ends_with_the_channel(join: Joiner):
    shop, other = await join(limits=NARROW), await join(limits=NARROW)
    async with other.subscribe("t", overflow="block"), other.serve("f", echo):
        fill(shop, "t")
        waiting = [asyncio.create_task(shop.publish("t", b"x")) for _ in range(3)]
        asking = [asyncio.create_task(shop.request("f", b"x", timeout=None)) for _ in range(3)]
        await asyncio.sleep(0)
        await shop.close(timeout=0)
        async with asyncio.timeout(DEADLINE):
            done = await asyncio.gather(*waiting, *asking, return_exceptions=True)
    assert [type(one) for one in done] == [ChannelClosed] * 6


async def test_a_request_that_waits_for_room_does_so_no_longer_than_for_its_reply(join: Joiner):
    shop, other = await join(limits=NARROW), await join(limits=NARROW)
    async with other.subscribe("t", overflow="block"), other.serve("f", echo):
        fill(shop, "t")
        first = asyncio.create_task(shop.publish("t", b"x"))
        await asyncio.sleep(0)
        with pytest.raises(RequestTimeout):
            await shop.request("f", b"x", timeout=0.05)
        assert not first.done()
        first.cancel()


async def test_a_confirmation_is_of_that_message_alone(join: Joiner):
    shop, other = await join(), await join()
    go_on = asyncio.Event()

    async def slowly(request: Message) -> bytes:
        await go_on.wait()
        return b""

    async with (
        other.serve("slow", slowly),
        other.subscribe("jobs", group="g") as jobs,
        other.subscribe("news") as news,
    ):
        asked = asyncio.create_task(shop.request("slow", timeout=None))
        await shop.publish("jobs", b"undone")
        await jobs.get()
        async with asyncio.timeout(DEADLINE):
            assert await shop.publish("news", b"now", confirm=True) == ()
        assert news.backlog
        assert not asked.done()
        flushed = asyncio.create_task(shop.flush())
        go_on.set()
        await asked
        assert not flushed.done()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(jobs.get(), 0.01)
        assert await flushed == ()


async def test_services_that_ask_each_other_may_confirm(join: Joiner):
    one, two = await join(), await join()
    both = asyncio.Barrier(2)

    async def handler(channel: Channel) -> bytes:
        async with asyncio.timeout(DEADLINE):
            await both.wait()
        await channel.publish("state", b"changed", confirm=True)
        return b"ok"

    async with (
        one.serve("one", lambda _: handler(one)),
        two.serve("two", lambda _: handler(two)),
        one.subscribe("state"),
    ):
        replies = await asyncio.gather(one.request("two"), two.request("one"))
    assert list(replies) == [b"ok", b"ok"]


async def test_closing_waits_for_no_reply(join: Joiner):
    await join()  # hosts to the end
    shop, other = await join(hosts=False), await join(hosts=False)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(request: Message) -> bytes:
        begun.set()
        await go_on.wait()
        return b""

    async with other.serve("slow", slowly):
        asked = asyncio.create_task(shop.request("slow", timeout=None))
        await begun.wait()
        async with asyncio.timeout(DEADLINE):
            await shop.close(timeout=None)
        with pytest.raises(ChannelClosed):
            await asked
        go_on.set()


@pytest.mark.parametrize(
    "wait",
    [
        lambda channel, messages: messages.get(),
        lambda channel, messages: anext(aiter(messages)),
        lambda channel, messages: channel.request("slow"),
        lambda channel, messages: channel.request_all("slow"),
        lambda channel, messages: channel.lock("taken").acquire(),
    ],
    ids=["get", "iteration", "request", "request_all", "lock"],
)
async def test_a_cancellation_keeps_its_message(
    join: Joiner, wait: Callable[[Channel, Subscription], Coroutine[Any, Any, object]]
):
    """By which anyio knows those of its own scopes."""
    shop = await join()
    never = asyncio.Event()
    async with (
        shop.subscribe("nothing") as messages,
        shop.serve("slow", lambda _: never.wait()),
        shop.lock("taken"),
    ):
        waiting = asyncio.create_task(wait(shop, messages))
        await asyncio.sleep(0.05)
        waiting.cancel("out of patience")
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        assert caught.value.args == ("out of patience",)
        never.set()


async def test_a_subscription_that_is_asked_in_vain_keeps_nothing_of_who_has_asked(join: Joiner):
    shop = await join()
    async with shop.subscribe("t") as subscription:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(subscription.get(), 1e-6)
        assert not subscription._readers.waiting
        await shop.publish("t", 1)
        async with asyncio.timeout(DEADLINE):
            assert (await subscription.get()).data == 1
