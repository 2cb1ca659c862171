"""Requests: to any responder, to one member, to all; each ends."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar

import pytest

from open_channel import (
    Limits,
    Message,
    NoResponders,
    PayloadInvalid,
    RequestTimeout,
    ResponderDied,
    ResponderError,
    open_channel,
)
from tests.bus.conftest import Joiner


def double(request: Message) -> int:
    return 2 * int(request.data)


async def test_a_request_is_answered(join: Joiner):
    shop, other = await join(), await join(hosts=False)

    async def slowly(request: Message) -> bytes:
        await asyncio.sleep(0)
        return bytes(request.body) + b"!"

    async with other.serve("double", double), other.serve("shout.*", slowly):
        assert await shop.request("double", 21) == 42
        assert await shop.request("shout.loud", b"hey") == b"hey!"
        assert await other.request("double", 1) == 2


async def test_many_requests_at_once(join: Joiner):
    shop, one, two = await join(), await join(), await join(hosts=False)
    async with one.serve("double", double), two.serve("double", double):
        replies = await asyncio.gather(*(shop.request("double", n) for n in range(500)))
    assert replies == [2 * n for n in range(500)]
    assert shop.stats().unacknowledged == 0


async def test_who_asked_first_goes_on_first(join: Joiner):
    shop, other = await join(), await join(hosts=False)
    order: list[int] = []

    async def ask(number: int) -> None:
        await shop.request("double", number)
        order.append(number)

    async with other.serve("double", double):
        for _ in range(5):
            await asyncio.gather(*(ask(number) for number in range(20)))
    assert order == [*range(20)] * 5


async def test_a_request_that_was_given_up_delays_no_flush_and_no_close(join: Joiner):
    await join()  # hosts to the end: the late reply is acknowledged
    shop, other = await join(hosts=False), await join(hosts=False)
    working, done = asyncio.Event(), asyncio.Event()

    async def work(request: Message) -> bytes:
        working.set()
        await done.wait()
        return b"late"

    async with other.serve("work", work):
        with pytest.raises(RequestTimeout):
            await shop.request("work", timeout=0.1)
        await working.wait()
        async with asyncio.timeout(2):  # close() itself gives up after 5
            await shop.flush()
            await shop.close()
        done.set()


async def test_one_responder_gets_it_and_one_member_can_be_asked(join: Joiner):
    shop, one, two = await join(), await join(), await join()
    asked: list[str] = []

    def at(name: str):
        def handler(request: Message) -> str:
            asked.append(name)
            return name

        return handler

    async with one.serve("who", at("one")), two.serve("who", at("two")):
        assert {await shop.request("who") for _ in range(10)} == {"one", "two"}
        assert len(asked) == 10
        assert await shop.request("who", to=two.member) == "two"
        with pytest.raises(NoResponders):
            await shop.request("who", to=shop.member)
        with pytest.raises(NoResponders):
            await shop.request("who", to="0f" * 16)
        with pytest.raises(ValueError, match="32 hexadecimal"):
            await shop.request("who", to="nobody")


async def test_all_are_asked(join: Joiner):
    shop, one, two = await join(), await join(), await join(hosts=False)

    def fails(request: Message) -> None:
        raise LookupError("not here")

    assert await shop.request_all("stats") == {}
    async with one.serve("stats", lambda _: 1), two.serve("stats", fails):
        replies = await shop.request_all("stats", timeout=10.0)
    assert replies.keys() == {one.member, two.member}
    assert replies[one.member] == 1
    failure = replies[two.member]
    assert isinstance(failure, ResponderError)
    assert (failure.kind, failure.reason, failure.responder) == (
        "LookupError",
        "not here",
        two.member,
    )


async def test_who_does_not_reply_is_missing(join: Joiner):
    shop, one, two = await join(), await join(), await join()
    never = asyncio.Event()

    async def waits(request: Message) -> None:
        await never.wait()

    async with one.serve("stats", lambda _: 1), two.serve("stats", waits):
        assert await shop.request_all("stats", timeout=0.2) == {one.member: 1}
        never.set()


async def test_an_error_reaches_the_requester(join: Joiner):
    shop, other = await join(), await join()

    async def fails(request: Message) -> None:
        raise KeyError("sku")

    async with other.serve("price", fails), other.serve("odd", lambda _: object()):
        with pytest.raises(ResponderError) as raised:
            await shop.request("price")
        assert (raised.value.kind, raised.value.reason) == ("KeyError", "'sku'")
        assert raised.value.responder == other.member
        with pytest.raises(ResponderError, match="PayloadInvalid"):
            await shop.request("odd")
        with pytest.raises(PayloadInvalid):
            await shop.request("odd", object())


async def test_nobody_serves_it(join: Joiner):
    shop, other = await join(), await join()
    with pytest.raises(NoResponders):
        await shop.request("price")
    async with other.serve("price", double):
        pass
    with pytest.raises(NoResponders):
        await shop.request("price", 1)
    async with other.subscribe("price") as plain:  # a subscriber is no responder
        with pytest.raises(NoResponders):
            await shop.request("price")
        assert plain.take() is None


async def test_a_request_times_out_and_can_be_cancelled(join: Joiner):
    shop, other = await join(), await join()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits(request: Message) -> int:
        begun.set()
        await go_on.wait()
        return 1

    async with other.serve("slow", waits, concurrency=1):
        with pytest.raises(RequestTimeout) as raised:
            await shop.request("slow", timeout=0.05)
        assert raised.value.timeout == 0.05
        await begun.wait()
        waiting = asyncio.create_task(shop.request("slow", timeout=None))
        await shop.publish("t", confirm=False)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on.set()
        assert await shop.request("slow") == 1
        assert await shop.flush() == ()
    assert shop.stats().unacknowledged == 0


async def test_a_request_ends_when_its_responder_leaves(join: Joiner):
    shop = await join()
    begun = asyncio.Event()

    async def waits(request: Message) -> None:
        begun.set()
        await asyncio.Event().wait()

    for to_one in (False, True):
        begun.clear()
        async with open_channel("shop", hosts=False) as other:
            service = other.serve("slow", waits)
            await service.__aenter__()
            to = other.member if to_one else None
            waiting = asyncio.create_task(shop.request("slow", to=to, timeout=None))
            await begun.wait()
            await other.close()
            with pytest.raises(ResponderDied):
                await waiting
            await service.__aexit__(ValueError, None, None)


async def test_a_handler_in_hand_is_finished_before_the_block_ends(join: Joiner):
    shop, other = await join(), await join()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits(request: Message) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with other.serve("slow", waits):
        waiting = asyncio.create_task(shop.request("slow"))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert await waiting == "done"


async def test_coroutine_handlers_have_a_context_of_their_own_too(join: Joiner):
    shop, other = await join(), await join()
    user: ContextVar[str] = ContextVar("user", default="nobody")

    async def handler(request: Message) -> str:
        before = user.get()
        user.set(str(request.data))
        await asyncio.sleep(0)
        return f"{before}, {user.get()}"

    async with other.serve("who", handler):
        for name in ("alice", "bob"):
            assert await shop.request("who", name) == f"nobody, {name}"


async def test_more_requests_than_there_is_room_for(join: Joiner):
    await join()
    shop = await join(hosts=False, limits=Limits(drain=100_000))
    other = await join(hosts=False)
    async with asyncio.timeout(20), other.serve("size", lambda request: len(request.body)):
        sizes = await asyncio.gather(*(shop.request("size", bytes(20_000)) for _ in range(100)))
    assert sizes == [20_000] * 100


async def test_waiting_for_room_counts_in_the_timeout(join: Joiner):
    await join()
    shop = await join(hosts=False, limits=Limits(drain=100_000, outbox=4 * 1024 * 1024))
    other = await join(hosts=False)
    never = asyncio.Event()

    async def work(request: Message) -> None:
        await never.wait()

    async def ask(size: int) -> object:
        return await shop.request("work", bytes(size), timeout=1)

    async with asyncio.timeout(10), other.serve("work", work):
        # Some are sent, some wait for room, and then one is larger than what is left.
        asked = [ask(50_000) for _ in range(20)] + [ask(3_000_000) for _ in range(3)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(end) for end in ends] == [RequestTimeout] * 23
        assert {str(end) for end in ends} == {"no reply from 'work' within 1 s"}
        never.set()


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class _Ends(BaseException):
    pass


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("cannot read caf\udce9"), "ValueError: cannot read caf\\udce9"),
        (_Unspeakable(), "_Unspeakable: its text cannot be made: ValueError"),
        (ValueError("x" * 1_000_000), "ValueError: " + "x" * 16_384),
        (_Ends("now"), "_Ends: now"),
    ],
    ids=["no UTF-8", "no text", "long", "no Exception"],
)
async def test_whatever_a_handler_raises_reaches_the_requester(
    join: Joiner,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    text: str,
    awaited: bool,
):
    shop, other = await join(), await join(hosts=False)

    def fail(request: Message) -> None:
        raise error

    async def fail_later(request: Message) -> None:
        raise error

    async with other.serve("fail", fail_later if awaited else fail):
        with pytest.raises(ResponderError) as raised:
            await shop.request("fail")
        assert str(raised.value).endswith(f"failed: {text}")
        await other.flush()
    # It cost nobody his connection.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_handler_that_is_cancelled_by_itself_replies_that_it_died(join: Joiner):
    shop, other = await join(), await join(hosts=False)

    def give_up(request: Message) -> None:
        raise asyncio.CancelledError

    async with other.serve("fail", give_up):
        with pytest.raises(ResponderError, match="CancelledError"):
            await shop.request("fail")


async def test_a_reply_that_is_too_large_is_an_error(join: Joiner):
    shop = await join(limits=Limits(max_message=1000))
    other = await join(hosts=False, limits=Limits(max_message=1000))

    async def later(request: Message) -> bytes:
        return bytes(request.data)

    async with (
        other.serve("bytes", lambda request: bytes(request.data)),
        other.serve("later", later),
    ):
        for topic in ("bytes", "later"):
            assert await shop.request(topic, 1000) == bytes(1000)
            for size in (1001, 1_000_000):
                with pytest.raises(ResponderError, match=f"a message of {size} bytes"):
                    await shop.request(topic, size)
        await other.publish("after", b"that")
        await other.flush()
    async with asyncio.timeout(2):  # close() itself gives up after 5
        await other.close()


async def test_nobody_has_the_id_of_zeros(join: Joiner):
    shop = await join()
    async with shop.serve("echo", double):
        with pytest.raises(NoResponders):
            await shop.request("echo", 1, to="0" * 32)


async def test_replies_have_types(join: Joiner):
    shop, other = await join(), await join()
    async with other.serve("double", double, type=int):
        assert await shop.request("double", 2, type=float) == 4.0
        with pytest.raises(ResponderError, match="PayloadInvalid"):
            await shop.request("double", "two")
        with pytest.raises(PayloadInvalid):
            await shop.request("double", 2, type=str)
