"""nats-py with a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from harness import Crew, say, until_dismissed

from peers.ledger import Tally, ask_async, give_async
from peers.peer import Peer, Place
from peers.servers import start_nats

SUBJECT = "orders.eu"


def start(crew: Crew, _loop: str) -> Place:
    return Place(*start_nats(crew))


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Any]:
    import nats

    client = await nats.connect(
        address,
        skip_subject_validation=True,
        pending_size=8 << 20,
        max_reconnect_attempts=0,
    )
    try:
        yield client
    finally:
        await client.close()


async def receive(address: str, index: int, count: int, size: int, topics: int = 1) -> None:
    tally = Tally(count, size)

    async def take(message: Any) -> None:
        tally.take(message.data)

    async with connected(address) as client:
        subject = SUBJECT if topics == 1 else f"{SUBJECT}.*"
        await client.subscribe(subject, cb=take, pending_msgs_limit=0, pending_bytes_limit=0)
        if topics > 1:
            await client.subscribe(SUBJECT, cb=take)
        await client.flush()
        say(listening=True)
        await until_dismissed()


async def send(address: str, receivers: int, count: int, size: int, topics: int = 1) -> None:
    names = [SUBJECT] if topics == 1 else [f"{SUBJECT}.{number}" for number in range(topics)]
    async with connected(address) as client:
        sends = [partial(client.publish, name) for name in names]
        await give_async(sends, count, size, partial(client.flush, timeout=60))


async def respond(address: str) -> None:
    async with connected(address) as client:

        async def answer(message: Any) -> None:
            await client.publish(message.reply, message.data)

        await client.subscribe("echo", cb=answer)
        await client.flush()
        say(listening=True)
        await until_dismissed()


async def request(address: str, count: int, size: int, fresh: bool) -> None:
    @asynccontextmanager
    async def client() -> AsyncIterator[Any]:
        async with connected(address) as client:

            async def send(body: bytes) -> bytes:
                return bytes((await client.request("echo", body, timeout=5)).data)

            yield send

    await ask_async(client, count, size, fresh)


async def crowd(address: str, members: int, subscriptions: int) -> None:
    async def ignore(_: Any) -> None:
        pass

    async with AsyncExitStack() as stack:
        for member in range(members):
            client = await stack.enter_async_context(connected(address))
            for number in range(subscriptions):
                await client.subscribe(f"idle.{member}.{number}", cb=ignore)
                if not number % 256:
                    await asyncio.sleep(0)
            await client.flush()
        say(listening=True)
        await until_dismissed()


PEERS = [
    Peer(
        key="nats",
        name="nats-py, nats-server",
        kind="brokered",
        setup=(
            "Core NATS on 127.0.0.1, nats-py under uvloop with `skip_subject_validation=True` and a"
            " pending buffer of 8 MiB; `await publish()` for each message, `flush()` at the end,"
            " `subscribe(cb=...)` without pending limits; `request()` and a responder that"
            " publishes. The server's `max_pending` is 4 GB, so that no subscriber is cut off."
        ),
        start=start,
        receive=receive,
        send=send,
        respond=respond,
        request=request,
        crowd=crowd,
        modules=("nats", "uvloop"),
        program="nats-server",
        loop="uvloop",
        topics=True,
    )
]
