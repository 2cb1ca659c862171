"""Publish and subscribe: what arrives where, in which order, and what a full queue does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from open_channel import (
    ChannelClosed,
    Limits,
    MessageTooLarge,
    OutboxFull,
    PayloadInvalid,
    Refused,
    Subscription,
    TopicInvalid,
    open_channel,
)
from tests.bus.conftest import Joiner


async def take(subscription: Subscription, count: int) -> list[Any]:
    return [(await subscription.get()).data for _ in range(count)]


async def test_a_message_reaches_every_subscriber_whose_pattern_fits(join: Joiner):
    shop, other, third = await join(), await join(), await join(hosts=False)
    async with (
        other.subscribe("orders.*") as some,
        third.subscribe("orders.>") as more,
        shop.subscribe("orders.eu") as own,
        third.subscribe("orders") as none,
    ):
        await shop.publish("orders.eu", {"id": 7})
        await shop.publish("orders.eu.de", b"raw")
        await shop.flush()
        assert await take(some, 1) == [{"id": 7}]
        assert await take(more, 2) == [{"id": 7}, b"raw"]
        assert await take(own, 1) == [{"id": 7}]
        assert [s.take() for s in (some, more, own, none)] == [None] * 4


async def test_a_message_says_where_it_comes_from(join: Joiner):
    shop, other = await join(), await join()
    async with other.subscribe(">") as everything:
        await shop.publish("orders.eu", b"body")
        message = await everything.get()
    assert message.topic == "orders.eu"
    assert message.body == message.data == b"body"
    assert message.sender == shop.member
    assert message.missed == 0


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, bytearray(b"ab"), "", "text", None, 7, 1.5, [1, "a"], {"a": None}]
)
async def test_data_arrives_as_it_was(join: Joiner, data: Any):
    shop = await join()
    async with shop.subscribe("t") as subscription:
        await shop.publish("t", data)
        assert (await subscription.get()).data == data


@dataclass
class Order:
    id: int
    note: str = ""


async def test_a_type_is_decoded_and_checked(join: Joiner):
    shop = await join()
    async with shop.subscribe("orders", type=Order) as orders:
        await shop.publish("orders", Order(7, "now"))
        await shop.publish("orders", {"id": "seven"})
        assert (await orders.get()).data == Order(7, "now")
        message = await orders.get()
        with pytest.raises(PayloadInvalid) as raised:
            _ = message.data
        assert raised.value.topic == "orders"
        assert raised.value.sender == shop.member
        assert "int" in raised.value.reason


@pytest.mark.no_cover  # measured, so many messages take 12 s and not 2
async def test_everything_arrives_once_and_in_order(join: Joiner):
    shop, other, third = await join(), await join(), await join(hosts=False)
    count = 20_000

    async def publish(channel: Any, name: str) -> None:
        for number in range(count):
            await channel.publish(f"numbers.{name}.{number % 3}", number)

    async with third.subscribe("numbers.>") as numbers:
        await asyncio.gather(publish(shop, "a"), publish(other, "b"))
        seen: dict[str, list[int]] = {shop.member: [], other.member: []}
        for _ in range(2 * count):
            message = await numbers.get()
            seen[message.sender].append(message.data)
    assert seen == {shop.member: list(range(count)), other.member: list(range(count))}


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        (Limits(drain=1_000_000, outbox=8_000_000), 3_000_000),
        (Limits(drain=4_500_000, outbox=5_000_000), 900_000),
        (Limits(drain=0, outbox=4 * 1024 * 1024), 5_000_000),
    ],
)
async def test_publish_waits_for_room_for_large_messages_too(
    join: Joiner, limits: Limits, size: int
):
    await join()
    shop, other = await join(hosts=False, limits=limits), await join(hosts=False)
    async with other.subscribe("t", queue=1 << 30) as everything:
        for number in range(20):
            await shop.publish("t", bytes([number]) * size)
        got = [await everything.get() for _ in range(20)]
    assert [(m.body[0], m.body[-1], len(m.body)) for m in got] == [
        (number, number, size) for number in range(20)
    ]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_is_published_in_a_row_keeps_its_order(join: Joiner, seed: int):
    random = Random(seed)
    shop, other = await join(), await join()
    bodies: list[Any] = [b"", b"x" * 64, b"y" * 3000, bytearray(b"z"), 7, "text", None]
    sent: list[tuple[str, Any]] = []
    async with other.subscribe("t.>", overflow="block") as everything:
        while len(sent) < 4000:
            topic = f"t.{random.choice('abc')}"
            # One object again and again, and equal ones: they are one topic all the same.
            topics = random.choice([[topic], [topic, "".join(topic)], [topic, "t.a", "t.b"]])
            some = bodies if random.random() < 0.5 else [random.choice(bodies)]
            for _ in range(random.randrange(100)):
                sent.append((random.choice(topics), random.choice(some)))
                if random.random() < 0.5:
                    await shop.publish(*sent[-1])
                else:
                    shop.publish_nowait(*sent[-1])
            if random.random() < 0.1:
                await shop.flush()
        got = [await everything.get() for _ in sent]
    assert [(message.topic, message.data) for message in got] == sent


async def test_batches_hold_what_came_together(join: Joiner):
    shop, other = await join(), await join()
    async with other.subscribe("t") as subscription:
        for number in range(1000):
            shop.publish_nowait("t", number)
        first = await subscription.get()
        numbers = [first.data]
        async for batch in subscription.batches():
            assert batch.topic == "t"
            assert batch.sender == shop.member
            numbers += [message.data for message in batch]
            if len(numbers) == 1000:
                break
    assert numbers == list(range(1000))


async def test_what_is_published_after_subscribing_arrives_and_nothing_before(join: Joiner):
    shop, other = await join(), await join()
    for number in range(50):
        await shop.publish("t", -1, confirm=True)
        async with other.subscribe("t") as subscription:
            await shop.publish("t", number)
            assert (await subscription.get()).data == number
            await shop.flush()
            assert subscription.take() is None


async def test_confirmed_means_received(join: Joiner):
    shop, other = await join(), await join(hosts=False)
    async with other.subscribe("t") as subscription:
        for number in range(20):
            assert await shop.publish("t", number, confirm=True) == ()
            message = subscription.take()
            assert message is not None
            assert message.data == number
    assert await shop.publish("t", "nobody listens", confirm=True) == ()
    assert shop.stats().unacknowledged == 0
    assert shop.stats().outbox == 0


async def test_a_large_message_travels(join: Joiner):
    shop, other = await join(), await join(hosts=False)
    body = bytes(64 * 1024 * 1024)
    async with other.subscribe("t") as subscription:
        await shop.publish("t", body)
        assert (await subscription.get()).body == body


async def test_a_thousand_topics(join: Joiner):
    shop, other = await join(), await join(hosts=False)
    async with other.subscribe("topic.*") as subscription:
        for number in range(1000):
            await shop.publish(f"topic.{number}", number)
        messages = [await subscription.get() for _ in range(1000)]
    assert [message.topic for message in messages] == [f"topic.{n}" for n in range(1000)]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_a_full_queue_drops_and_says_how_many(join: Joiner, overflow: Any):
    shop, other = await join(), await join(hosts=False)
    count = 30_000
    async with other.subscribe("t", overflow=overflow, queue=50_000) as subscription:
        for number in range(count):
            await shop.publish("t", number)
        await shop.flush()
        kept: list[int] = []
        before = 0
        while (message := subscription.take()) is not None:
            before += message.missed
            assert message.data == len(kept) + before  # what is missing is just before this one
            kept.append(message.data)
        await shop.publish("t", count)
        last = await subscription.get()
        assert len(kept) + before + last.missed == count
        assert subscription.missed == count - len(kept) > 0
    assert (kept[0] == 0) == (overflow == "drop_newest")


async def test_a_blocking_subscription_loses_nothing_and_stops_its_publishers(join: Joiner):
    shop = await join(limits=Limits(drain=50_000))
    other = await join(hosts=False)
    count, published = 20_000, 0

    async def publish() -> None:
        nonlocal published
        for number in range(count):
            await shop.publish("t", number.to_bytes(64, "big"))
            published += 1

    async with (
        other.subscribe("t", overflow="block", queue=50_000) as subscription,
        other.subscribe("other") as unharmed,
    ):
        publishing = asyncio.create_task(publish())
        while subscription.backlog < 50_000:
            await asyncio.sleep(0)
        third = await join()
        await third.publish("other", "goes on", confirm=True)
        assert unharmed.take() is not None
        assert published < count
        bodies = await take(subscription, count)
        assert [int.from_bytes(body, "big") for body in bodies] == list(range(count))
        await publishing
        assert await shop.flush() == ()


async def test_a_subscription_ends_with_its_block(join: Joiner):
    shop, other = await join(), await join()
    async with other.subscribe("t") as subscription:
        await shop.publish("t", 1, confirm=True)
    await shop.publish("t", 2, confirm=True)
    assert [message.data async for message in subscription] == [1]
    with pytest.raises(ChannelClosed):
        await subscription.get()
    with pytest.raises(RuntimeError):
        await subscription.__aenter__()


async def test_cancelled_reading_loses_nothing(join: Joiner):
    shop, other = await join(), await join()
    async with other.subscribe("t") as subscription:
        for number in range(20):
            reading = asyncio.create_task(subscription.get())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
            await shop.publish("t", number)
            assert (await subscription.get()).data == number


async def test_the_outbox_has_a_bound(join: Joiner):
    shop = await join(limits=Limits(window=4096, drain=4096, outbox=50_000, max_message=10_000))
    with pytest.raises(MessageTooLarge):
        shop.publish_nowait("t", bytes(10_001))
    for _ in range(4):
        shop.publish_nowait("t", bytes(10_000))
    with pytest.raises(OutboxFull):
        shop.publish_nowait("t", bytes(10_000))
    assert await shop.flush() == ()
    await shop.publish("t", bytes(10_000), confirm=True)


@pytest.mark.parametrize("topics", [1, 7])
async def test_many_small_messages_fit_whatever_the_largest_may_be(join: Joiner, topics: int):
    shop = await join(limits=Limits(max_message=1000))
    other = await join(limits=Limits(max_message=1000), hosts=False)
    names = ["x" * 1000 + str(number) for number in range(topics)]
    async with other.subscribe(">") as subscription:
        for number in range(2000):
            shop.publish_nowait(names[number % topics], bytes(number % 1001))
        assert await shop.flush() == ()
        sizes = [len((await subscription.get()).body) for _ in range(2000)]
    assert sizes == [number % 1001 for number in range(2000)]


async def test_a_member_that_takes_less_than_others_may_publish_is_refused(join: Joiner):
    await join(limits=Limits(max_message=20_000))
    with pytest.raises(Refused, match="it takes messages of"):
        await join(limits=Limits(max_message=10_000))
    more = await join(limits=Limits(max_message=30_000))
    await more.publish("t", bytes(20_000), confirm=True)


@pytest.mark.parametrize("topic", ["", "a..b", ".a", "a.", "a b", "a.*", ">", "x" * 1025])
async def test_a_topic_that_is_none_is_refused(join: Joiner, topic: str):
    shop = await join()
    with pytest.raises(TopicInvalid):
        await shop.publish(topic, b"")
    with pytest.raises(TopicInvalid):
        await shop.request(topic, b"")
    assert await shop.flush() == ()


async def test_options_that_make_no_sense_are_refused(join: Joiner):
    shop = await join()
    with pytest.raises(ValueError, match="overflow"):
        shop.subscribe("t", overflow="sometimes")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="prefetch"):
        shop.subscribe("t", group="g", prefetch=0)
    with pytest.raises(ValueError, match="group"):
        shop.subscribe("t", group="")
    with pytest.raises(TopicInvalid):
        shop.subscribe("a.>.b")
    with pytest.raises(PayloadInvalid):
        await shop.publish("t", object())


async def test_a_closed_channel_says_so(join: Joiner):
    shop = await join()
    async with shop.subscribe("t") as subscription:
        for _ in range(9):
            await shop.publish("t", b"one of a stream")
        await shop.close()
        assert len([message async for message in subscription]) == 9
    with pytest.raises(ChannelClosed):
        await shop.publish("t", b"one of a stream")
    for use in (shop.publish("t"), shop.flush(), shop.request("t")):
        with pytest.raises(ChannelClosed):
            await use
    with pytest.raises(ChannelClosed):
        shop.publish_nowait("t")


async def test_without_a_block_the_first_use_joins(join: Joiner):
    other = await join()
    shop = open_channel("shop")
    async with other.subscribe("t") as subscription:
        await shop.publish("t", 1)
        assert (await subscription.get()).data == 1
    await shop.close()
    await shop.close()


async def test_closing_hands_on_what_was_published(join: Joiner):
    other = await join()
    async with other.subscribe("t") as subscription:
        async with open_channel("shop") as shop:
            for number in range(5000):
                shop.publish_nowait("t", number)
        assert await take(subscription, 5000) == list(range(5000))
