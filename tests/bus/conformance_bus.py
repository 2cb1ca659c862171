"""How every API must publish, subscribe and share jobs out: run on asyncio, uvloop and blocking.

A subclass is run by pytest; the fixture ``join`` opens members of the channel "shop" whose methods
are those of the asyncio API, whatever is behind them, and ``run`` runs programs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from open_channel import (
    ChannelClosed,
    JobLost,
    Limits,
    MessageTooLarge,
    OutboxFull,
    PayloadInvalid,
    TopicInvalid,
)
from tests.channel.programs import Programs
from tests.channel.steps import eventually

Join = Callable[..., Awaitable[Any]]

KIB = 1024
MIB = 1024 * KIB


@dataclass
class Order:
    id: int
    note: str = ""


async def data_of(subscription: Any, count: int) -> list[Any]:
    return [(await subscription.get()).data for _ in range(count)]


class Publishing:
    """What is published arrives at those who subscribed, once and in order."""

    async def test_patterns_choose_what_arrives(self, join: Join):
        shop, other = await join(), await join(hosts=False)
        async with (
            other.subscribe("orders.eu") as exact,
            other.subscribe("orders.*") as one_token,
            other.subscribe("*.eu") as first_token,
            other.subscribe("orders.>") as rest,
            other.subscribe(">") as everything,
        ):
            for topic in ("orders.eu", "orders.us", "orders.eu.paris", "orders", "stock.eu"):
                await shop.publish(topic, topic)
            await shop.flush()
            assert await data_of(exact, 1) == ["orders.eu"]
            assert await data_of(one_token, 2) == ["orders.eu", "orders.us"]
            assert await data_of(first_token, 2) == ["orders.eu", "stock.eu"]
            assert await data_of(rest, 3) == ["orders.eu", "orders.us", "orders.eu.paris"]
            assert len(await data_of(everything, 5)) == 5
            for subscription in (exact, one_token, first_token, rest, everything):
                assert subscription.take() is None

    async def test_subscriptions_of_one_member_are_apart(self, join: Join):
        shop = await join()
        async with shop.subscribe("t") as one:
            async with shop.subscribe("t") as two:
                await shop.publish("t", 1, confirm=True)
                assert await data_of(one, 1) == await data_of(two, 1) == [1]
            await shop.publish("t", 2, confirm=True)
            assert await data_of(one, 1) == [2]
            assert two.take() is None

    async def test_what_is_published_arrives_from_the_block_on(self, join: Join):
        shop, other = await join(), await join()
        for number in range(20):
            await shop.publish("t", -1)
            async with shop.subscribe("t") as ours, other.subscribe("t") as theirs:
                await shop.publish("t", number)
                await shop.flush()
                assert await data_of(ours, 1) == [number]
                assert (await data_of(theirs, 1))[0] in {-1, number}  # -1 was not confirmed

    async def test_confirmed_means_received(self, join: Join):
        shop, other = await join(), await join(hosts=False)
        async with other.subscribe("t") as subscription:
            for number in range(10):
                assert await shop.publish("t", number, confirm=True) == ()
                message = subscription.take()
                assert message is not None
                assert message.data == number
        assert await shop.publish("t", confirm=True) == ()
        assert (shop.stats().unacknowledged, shop.stats().outbox) == (0, 0)

    async def test_flush_waits_for_all_that_was_published(self, join: Join):
        shop, other = await join(), await join(hosts=False)
        async with other.subscribe(">") as subscription:
            for number in range(500):
                shop.publish_nowait(f"t.{number % 7}", number)
            assert await shop.flush() == ()
            messages = [subscription.take() for _ in range(500)]
        assert [message.data for message in messages] == list(range(500))
        assert {message.sender for message in messages} == {shop.member}
        assert {message.missed for message in messages} == {0}
        assert {message.redelivered for message in messages} == {False}

    async def test_batches_and_messages_alternate(self, join: Join):
        shop, other = await join(), await join()
        numbers: list[int] = []
        async with other.subscribe("t") as subscription:
            for number in range(1000):
                shop.publish_nowait("t", number)
            await shop.flush()
            while len(numbers) < 1000:
                numbers.append((await subscription.get()).data)
                async for batch in subscription.batches():
                    assert (batch.topic, batch.sender) == ("t", shop.member)
                    assert len(batch) == len(batch.bodies)
                    numbers += [message.data for message in batch]
                    break
        assert numbers == list(range(1000))

    @pytest.mark.parametrize(
        "size", [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, 129 * KIB, MIB, 64 * MIB]
    )
    async def test_messages_of_any_size(self, join: Join, size: int):
        shop, other = await join(), await join(hosts=False)
        body = os.urandom(min(size, MIB)) * max(size // MIB, 1)
        async with other.subscribe("t") as subscription:
            for message in (b"before", body, b"behind"):
                await shop.publish("t", message)
            assert [(await subscription.get()).body for _ in range(3)] == [
                b"before",
                body,
                b"behind",
            ]

    async def test_a_thousand_topics(self, join: Join):
        shop, other = await join(), await join(hosts=False)
        async with other.subscribe("topic.*") as subscription:
            for number in range(1000):
                shop.publish_nowait(f"topic.{number}", number)
            messages = [await subscription.get() for _ in range(1000)]
        assert [message.topic for message in messages] == [f"topic.{n}" for n in range(1000)]

    async def test_each_subscription_gets_its_own_of_what_goes_to_changing_topics(self, join: Join):
        shop, other, third = await join(), await join(hosts=False), await join(hosts=False)
        topics = [f"t.{number * number % 5}" for number in range(3000)]
        async with (
            other.subscribe(">") as every,
            other.subscribe("t.1", overflow="block") as ones,
            third.subscribe("t.*", overflow="block", queue=1000) as slow,
            third.subscribe("t.4") as fours,
        ):
            for number, topic in enumerate(topics):
                shop.publish_nowait(topic, number)
                if not number % 1000:
                    shop.publish_nowait(topic, b"bytes")
            subs = {every: "t", ones: "t.1", slow: "t", fours: "t.4"}
            for subscription, start in subs.items():
                wanted = [(t, n) for n, t in enumerate(topics) if t.startswith(start)]
                for topic, number in wanted:
                    message = await subscription.get()
                    assert (message.topic, message.data, message.missed) == (topic, number, 0)
                    assert message.sender == shop.member
                    if not number % 1000:
                        extra = await subscription.get()
                        assert (extra.topic, extra.data) == (topic, b"bytes")
            assert await shop.flush() == ()

    async def test_batches_are_each_of_one_topic(self, join: Join):
        shop, other = await join(), await join()
        topics = [f"t.{number // 2 % 3}" for number in range(1000)]
        async with other.subscribe(">") as subscription:
            for number, topic in enumerate(topics):
                shop.publish_nowait(topic, number)
            await shop.flush()
            found: list[tuple[str, Any]] = []
            while len(found) < 1000:
                if len(found) % 7 == 0:
                    message = await subscription.get()
                    found.append((message.topic, message.data))
                async for batch in subscription.batches():
                    assert batch.sender == shop.member
                    found += [(batch.topic, message.data) for message in batch]
                    assert len(batch) in {1, 2}
                    assert {message.topic for message in batch} == {batch.topic}
                    break
            assert subscription.backlog == 0
        assert found == list(zip(topics, range(1000), strict=True))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x00\xff",
            "",
            "grüße, 世界 🎉",
            None,
            True,
            -(2**63),
            2**64 - 1,
            1.5,
            [1, [2, "x"]],
            {"ключ": {"b": [None, b"raw"]}},
        ],
    )
    async def test_data_arrives_as_it_was(self, join: Join, data: object):
        shop = await join()
        async with shop.subscribe("größe.*") as subscription:
            await shop.publish("größe.世界", data)
            message = await subscription.get()
        assert message.topic == "größe.世界"
        assert message.data == data
        assert type(message.data) is type(data)

    async def test_what_changes_after_publishing_is_copied(self, join: Join):
        shop = await join()
        buffer, items = bytearray(b"before"), [1]
        async with shop.subscribe("t") as subscription:
            shop.publish_nowait("t", buffer)
            shop.publish_nowait("t", memoryview(buffer))
            shop.publish_nowait("t", items)
            buffer[:] = b"after!"
            items.append(2)
            assert await data_of(subscription, 3) == [b"before", b"before", [1]]

    async def test_a_type_is_decoded_and_checked(self, join: Join):
        shop, other = await join(), await join()
        async with other.subscribe("orders", type=Order) as orders:
            await shop.publish("orders", Order(7, "now"))
            await shop.publish("orders", {"id": "seven"})
            await shop.publish("orders", {"id": 8})
            assert (await orders.get()).data == Order(7, "now")
            wrong = await orders.get()
            with pytest.raises(PayloadInvalid):
                _ = wrong.data
            with pytest.raises(PayloadInvalid) as raised:
                _ = wrong.data
            assert (raised.value.topic, raised.value.sender) == ("orders", shop.member)
            assert (await orders.get()).data == Order(8)


class Overflowing:
    """A queue that is full, and an outbox that is."""

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    async def test_what_is_dropped_is_counted_where_it_is_missing(self, join: Join, overflow: str):
        shop, other = await join(), await join(hosts=False)
        count = 2000
        async with other.subscribe("t", overflow=overflow, queue=50_000) as subscription:
            for number in range(count):
                shop.publish_nowait("t", b"%d " % number + bytes(1000))
            await shop.flush()
            position = kept = 0
            while (message := subscription.take()) is not None:
                position += message.missed
                assert int(message.body.split()[0]) == position
                position += 1
                kept += 1
            await shop.publish("t", b"last")
            last = await subscription.get()
            assert position + last.missed == count
            assert subscription.missed == other.stats().missed == count - kept > 0
            assert (last.missed > 0) == (overflow == "drop_newest")

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    async def test_what_is_dropped_of_changing_topics_is_counted_too(
        self, join: Join, overflow: str
    ):
        shop, other = await join(), await join(hosts=False)
        count = 2000
        async with other.subscribe("t.*", overflow=overflow, queue=100_000) as subscription:
            for number in range(count):
                shop.publish_nowait(f"t.{number % 3}", b"%d " % number + bytes(1000))
            await shop.flush()
            await shop.publish("t.0", b"last", confirm=True)
            position = kept = 0
            async for batch in subscription.batches():
                position += batch.missed
                if batch.bodies == [b"last"]:
                    break
                for message in batch:
                    assert int(message.body.split()[0]) == position
                    assert message.topic == f"t.{position % 3}"
                    position += 1
                    kept += 1
            assert position == count
            assert subscription.missed == count - kept > 0
            assert (batch.missed > 0) == (overflow == "drop_newest")

    async def test_block_loses_nothing_and_stops_its_publishers_only(self, join: Join):
        shop, third = await join(limits=Limits(drain=50_000)), await join()
        other = await join(hosts=False)
        count, published = 2000, 0

        async def publish() -> None:
            nonlocal published
            for number in range(count):
                await shop.publish("t", b"%d " % number + bytes(1000))
                published += 1

        async with (
            other.subscribe("t", overflow="block", queue=50_000) as subscription,
            other.subscribe("other") as unharmed,
        ):
            publishing = asyncio.create_task(publish())
            await eventually(lambda: subscription.backlog >= 50_000)
            await third.publish("other", "goes on", confirm=True)
            assert (await unharmed.get()).data == "goes on"
            assert published < count
            numbers = [int((await subscription.get()).body.split()[0]) for _ in range(count)]
            await publishing
            assert numbers == list(range(count))
            assert subscription.missed == 0
            assert await shop.flush() == ()

    async def test_the_outbox_has_a_bound_and_refuses_whole_messages(self, join: Join):
        limits = Limits(window=4096, drain=4096, outbox=50_000, max_message=10_000)
        shop, other = await join(limits=limits), await join(hosts=False)
        with pytest.raises(MessageTooLarge):
            shop.publish_nowait("t", bytes(10_001))
        async with other.subscribe("t", overflow="block", queue=1000) as subscription:
            accepted = 0

            def publish_all() -> None:
                nonlocal accepted
                while True:
                    shop.publish_nowait("t", bytes(10_000))
                    accepted += 1

            with pytest.raises(OutboxFull):
                publish_all()
            assert 4 <= accepted < 100
            assert [len(body) for body in await data_of(subscription, accepted)] == (
                [10_000] * accepted
            )
            await shop.publish("t", b"again")
            assert await data_of(subscription, 1) == [b"again"]


class Refusals:
    """Bad input, and uses at the wrong time."""

    @pytest.mark.parametrize(
        "topic", ["", "a..b", ".a", "a.", "a b", "a\n", "a.*", ">", "x" * 2000]
    )
    async def test_a_topic_that_is_none_is_refused(self, join: Join, topic: str):
        shop = await join()
        with pytest.raises(TopicInvalid):
            await shop.publish(topic)
        with pytest.raises(TopicInvalid):
            shop.publish_nowait(topic)
        with pytest.raises(TopicInvalid):
            await shop.request(topic)
        assert await shop.flush() == ()

    async def test_options_that_make_no_sense_are_refused(self, join: Join):
        shop = await join()
        for options, word in (
            ({"overflow": "sometimes"}, "overflow"),
            ({"group": "g", "prefetch": 0}, "prefetch"),
            ({"group": "g", "prefetch": 10**30}, "prefetch"),
            ({"group": ""}, "group"),
            ({"group": "\udce9"}, "group"),
            ({"group": "ü" * 513}, "group"),
            ({"queue": -1}, "queue"),
        ):
            with pytest.raises(ValueError, match=word):
                shop.subscribe("t", **options)
        for pattern in ("a.>.b", "", None):
            with pytest.raises(TopicInvalid):
                shop.subscribe(pattern)
        for concurrency in (0, 10**30):
            with pytest.raises(ValueError, match="concurrency"):
                shop.serve("t", print, concurrency=concurrency)
        async with shop.subscribe("t", group="g") as jobs:
            with pytest.raises(TypeError):
                [batch async for batch in jobs.batches()]

    async def test_options_of_another_type_are_refused(self, join: Join):
        shop = await join()
        for name, values in (
            ("group", (5, b"x")),
            ("prefetch", (2.5, True)),
            ("queue", ("x", 1.5)),
            ("type", (5, "int")),
        ):
            for value in values:
                with pytest.raises(TypeError, match=f"(?i){name}"):
                    shop.subscribe("t", **{name: value})
        with pytest.raises(TypeError):
            shop.serve("t", "no function")
        for options in ({"concurrency": 1.5}, {"concurrency": True}, {"type": 5}):
            with pytest.raises(TypeError):
                shop.serve("t", print, **options)
        for ask in (shop.request, shop.request_all):
            with pytest.raises(TypeError):
                await ask("t", type=5)
            with pytest.raises(ValueError, match="timeout"):
                await ask("t", timeout=-1)
        assert await shop.flush() == ()

    async def test_the_largest_options_reach_the_broker(self, join: Join):
        shop = await join()
        most = 2**62
        async with (
            shop.subscribe("t", group="ü" * 512, prefetch=most, queue=most) as jobs,
            shop.serve("double", lambda request: 2 * request.data, concurrency=most),
        ):
            await shop.publish("t", 1)
            assert await data_of(jobs, 1) == [1]
            assert await shop.request("double", 2) == 4

    async def test_a_subscription_is_used_inside_its_block(self, join: Join):
        shop = await join()
        for group in (None, "g"):
            subscription = shop.subscribe("t", group=group)
            with pytest.raises(RuntimeError, match="inside its block"):
                await subscription.get()
            with pytest.raises(RuntimeError, match="inside its block"):
                await anext(aiter(subscription))
            assert subscription.take() is None
        with pytest.raises(RuntimeError, match="inside its block"):
            await anext(shop.subscribe("t").batches())

    @pytest.mark.parametrize("data", [object(), 2**64, {"a": {1, object()}}])
    async def test_what_cannot_be_encoded_is_refused(self, join: Join, data: object):
        shop = await join()
        with pytest.raises(PayloadInvalid) as raised:
            await shop.publish("t", data)
        assert raised.value.topic == "t"
        with pytest.raises(PayloadInvalid):
            await shop.request("t", data)
        assert shop.stats().unacknowledged == 0

    async def test_a_subscription_ends_with_its_block(self, join: Join):
        shop, other = await join(), await join()
        async with other.subscribe("t") as subscription:
            await shop.publish("t", 1, confirm=True)
        await shop.publish("t", 2, confirm=True)
        assert [message.data async for message in subscription] == [1]
        with pytest.raises(ChannelClosed):
            await subscription.get()
        with pytest.raises(RuntimeError):
            await subscription.__aenter__()

    async def test_a_closed_channel_says_so(self, join: Join):
        shop = await join()
        async with shop.subscribe("t") as subscription:
            iterating = asyncio.create_task(data_of(subscription, 1))
            await asyncio.sleep(0)
            await shop.close()
            with pytest.raises(ChannelClosed):
                await iterating
            assert [message async for message in subscription] == []
        for use in (shop.publish, shop.request, shop.request_all):
            with pytest.raises(ChannelClosed):
                await use("t")
        with pytest.raises(ChannelClosed):
            await shop.flush()
        with pytest.raises(ChannelClosed):
            shop.publish_nowait("t")
        await shop.close()


class Groups:
    """Each job goes to one member of the group, until it is done."""

    async def test_each_job_is_done_once_by_each_group(self, join: Join):
        shop, one, two = await join(), await join(), await join(hosts=False)
        seen: list[tuple[str, int]] = []

        async def work(name: str, jobs: Any) -> None:
            async for job in jobs:
                assert not job.redelivered
                seen.append((name, job.data))

        async with (
            one.subscribe("jobs", group="mailers") as a,
            two.subscribe("jobs", group="mailers") as b,
            two.subscribe("jobs", group="loggers") as c,
        ):
            working = [
                asyncio.create_task(work(name, jobs))
                for name, jobs in (("a", a), ("a", a), ("b", b), ("c", c))
            ]
            for number in range(200):
                shop.publish_nowait("jobs", number)
            assert await shop.flush() == ()
        await asyncio.gather(*working)
        assert sorted(number for name, number in seen if name != "c") == list(range(200))
        assert sorted(number for name, number in seen if name == "c") == list(range(200))
        assert {name for name, _ in seen} == {"a", "b", "c"}

    async def test_a_job_is_not_done_because_another_consumer_asks(self, join: Join):
        shop = await join()
        async with shop.subscribe("jobs", group="g") as jobs:
            for number in range(3):
                shop.publish_nowait("jobs", number)
            one, two = aiter(jobs), aiter(jobs)
            first = await anext(one)
            rest = [(await anext(two)).data, (await anext(two)).data]
            first.reject()
            again = await anext(two)
        assert {first.data, *rest} == {0, 1, 2}
        assert (again.data, again.redelivered) == (first.data, True)

    async def test_no_more_than_prefetch_are_in_hand(self, join: Join):
        shop, other = await join(), await join()
        async with other.subscribe("jobs", group="g", prefetch=3) as slow:
            for number in range(10):
                shop.publish_nowait("jobs", number)
            first = await slow.get()
            async with shop.subscribe("jobs", group="g", prefetch=100) as quick:
                assert await data_of(quick, 7) == [3, 4, 5, 6, 7, 8, 9]
            assert first.data == 0
            first.ack()
            assert await data_of(slow, 2) == [1, 2]

    async def test_rejected_it_comes_again_and_its_first_delivery_is_over(self, join: Join):
        shop = await join()
        async with shop.subscribe("jobs", group="g") as jobs:
            await shop.publish("jobs", "a")
            first = await jobs.get()
            first.reject()
            second = await jobs.get()
            with pytest.raises(JobLost, match="was given back"):
                first.ack()
            first.reject()  # again, and harmless
            assert not first.lost  # it was this consumer's own doing
            assert (first.redelivered, second.redelivered) == (False, True)
            second.reject()
            third = await jobs.get()
            for _ in range(2):
                third.ack()
                third.reject()  # it is done: this changes nothing
            assert await shop.flush() == ()
            assert jobs.take() is None

    async def test_what_a_block_leaves_undone_goes_to_others(self, join: Join):
        shop, other = await join(), await join()
        async with shop.subscribe("jobs", group="g") as second:
            async with other.subscribe("jobs", group="g", prefetch=1) as first:
                for name in "ab":
                    await shop.publish("jobs", name)
                taken = await first.get()
                done = await second.get()
                assert {taken.data, done.data} == {"a", "b"}
                done.ack()
            with pytest.raises(JobLost, match="was given back"):
                taken.ack()
            assert taken.lost
            again = await second.get()
            assert (again.data, again.redelivered) == (taken.data, True)
            again.ack()
            assert await shop.flush() == ()

    async def test_jobs_of_a_process_that_is_killed_go_to_others(self, join: Join, run: Programs):
        shop = await join()
        program = run(
            """
            import threading
            from open_channel.sync import open_channel
            with open_channel("shop", hosts=False) as channel:
                with channel.subscribe("jobs", group="g", prefetch=2) as jobs:
                    print("ready")
                    print(jobs.get().data)
                    threading.Event().wait()
            """
        )
        assert await program.next_line() == "ready"
        for number in range(4):
            shop.publish_nowait("jobs", number)
        assert await program.next_line() == "0"
        async with shop.subscribe("jobs", group="g") as jobs:
            assert await data_of(jobs, 2) == [2, 3]
            program.kill()
            again = [await jobs.get() for _ in range(2)]
            assert {job.data for job in again} == {0, 1}
            assert next(job for job in again if not job.data).redelivered
            again[1].ack()
            assert await shop.flush() == ()
