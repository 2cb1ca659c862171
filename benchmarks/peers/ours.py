"""Open Channel: publisher, host and subscriber in three processes, with all guarantees on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from harness import Crew, say, until_dismissed

from peers.ledger import SMALL, Tally, ask_async, give_async, wrong
from peers.peer import Peer, Place

NAME = "bench"
TOPIC = "orders.eu"
SPREAD = "spread"


async def host(address: str) -> None:
    from open_channel import open_channel

    async with open_channel(address):
        say(ready=True)
        await until_dismissed()


def start(crew: Crew, loop: str) -> Place:
    hosting = crew.spawn(host, loop=loop, address=NAME)
    hosting.hear()
    return Place(NAME, hosting.pid)


async def receive(
    address: str, index: int, count: int, size: int, batches: bool, topics: int = 1
) -> None:
    from open_channel import open_channel

    pattern = TOPIC if topics == 1 else f"{SPREAD}.*"
    tally = Tally(count, size)
    async with (
        open_channel(address, hosts=False) as channel,
        channel.subscribe(pattern, overflow="block") as orders,
    ):
        say(listening=True)
        await (_batches if batches else _messages)(orders, tally, count, size)
        await until_dismissed()


async def _batches(orders: Any, tally: Tally, count: int, size: int) -> None:
    coming = orders.batches()
    async for batch in coming:
        if any(tally.begin(body) for body in batch.bodies):
            break
    async for batch in coming:
        if tally.extend(batch.bodies):
            break


async def _messages(orders: Any, tally: Tally, count: int, size: int) -> None:
    async for message in orders:
        if tally.begin(message.body):
            break
    if size > SMALL:
        async for message in orders:
            if tally.extend([message.body]):
                break
        return
    expected = tally.expected
    async for message in orders:
        body = expected()
        if message.body != body:
            raise tally.fail(wrong(message.body, body))
        count -= 1
        if not count:
            tally.end()
            break


async def send(
    address: str, receivers: int, count: int, size: int, batches: bool, topics: int = 1
) -> None:
    from open_channel import open_channel

    names = [TOPIC] if topics == 1 else [f"{SPREAD}.{number}" for number in range(topics)]
    async with open_channel(address, hosts=False) as channel:
        sends = [partial(channel.publish, name) for name in names]
        await give_async(sends, count, size, channel.flush)


async def respond(address: str, batches: bool) -> None:
    from open_channel import open_channel

    async with (
        open_channel(address, hosts=False) as channel,
        channel.serve("echo", lambda request: request.body),
    ):
        say(listening=True)
        await until_dismissed()


async def request(address: str, count: int, size: int, fresh: bool, batches: bool) -> None:
    from open_channel import open_channel

    @asynccontextmanager
    async def client() -> AsyncIterator[Any]:
        async with open_channel(address, hosts=False) as channel:
            yield partial(channel.request, "echo")

    await ask_async(client, count, size, fresh)


async def crowd(address: str, members: int, subscriptions: int, batches: bool) -> None:
    from open_channel import open_channel

    async with AsyncExitStack() as stack:
        for member in range(members):
            channel = await stack.enter_async_context(open_channel(address, hosts=False))
            for number in range(subscriptions):
                topic = f"idle.{member}.{number}"
                await stack.enter_async_context(channel.subscribe(topic))
        say(listening=True)
        await until_dismissed()


def _peer(loop: str, batches: bool) -> Peer:
    how = "batches" if batches else "messages"
    # A request does not depend on how a subscription is read.
    only = ("stream", "fanout") if not batches else ()
    return Peer(
        key=f"ours-{loop}-{how}",
        name=f"open_channel, {loop}, {how}",
        kind="ours",
        setup=(
            f"Publisher, host and subscriber in three processes, each with an {loop} loop"
            " (the host's thread takes uvloop where it is installed); `await channel.publish()` for"
            ' each message, `subscribe(overflow="block")` read by '
            + ("`batches()`" if batches else "plain `async for`")
            + ", `flush()` at the end."
        ),
        start=start,
        receive=receive,
        send=send,
        respond=respond,
        request=request,
        crowd=crowd,
        modules=("uvloop",) if loop == "uvloop" else (),
        loop=loop,
        options={"batches": batches},
        topics=True,
        patterns=only,
    )


PEERS = [_peer(loop, batches) for loop in ("uvloop", "asyncio") for batches in (True, False)]
