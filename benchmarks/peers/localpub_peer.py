"""localpub: its bus with an elected broker, in a third process here."""

from __future__ import annotations

from typing import Any

from harness import Crew, say, until_dismissed

from peers.ledger import Tally, give_async
from peers.peer import Peer, Place

TOPIC = "orders.eu"


class Untouched:
    """A serializer for bodies that are bytes already."""

    def encode(self, body: Any) -> Any:
        return body

    decode = encode


def opened(address: str) -> Any:
    from localpub import UnixBrokerBus

    return UnixBrokerBus(address, serializer=Untouched())


async def broker(address: str) -> None:
    async with opened(address):
        say(ready=True)
        await until_dismissed()


def start(crew: Crew, loop: str) -> Place:
    address = str(crew.directory / "localpub")
    process = crew.spawn(broker, loop=loop, address=address)
    process.hear()
    return Place(address, process.pid)


async def receive(address: str, index: int, count: int, size: int) -> None:
    tally = Tally(count, size)

    async def take(envelope: Any) -> None:
        tally.take(envelope.payload)

    async with opened(address) as bus:
        await bus.subscribe(TOPIC, take)
        say(listening=True)
        await until_dismissed()


async def send(address: str, receivers: int, count: int, size: int) -> None:
    async with opened(address) as bus:

        async def publish(body: Any) -> None:
            await bus.publish(TOPIC, body)

        await give_async([publish], count, size)


PEERS = [
    Peer(
        key="localpub",
        name="localpub, broker",
        kind="brokered",
        setup=(
            "`UnixBrokerBus` under uvloop, its broker in a third process, a serializer that leaves"
            " bytes as they are. It has no requests."
        ),
        start=start,
        receive=receive,
        send=send,
        modules=("localpub", "uvloop"),
        loop="uvloop",
    )
]
