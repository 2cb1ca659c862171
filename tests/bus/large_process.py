"""A process that hosts, subscribes to or publishes large messages, for their tests."""

from __future__ import annotations

import asyncio
import sys

from open_channel import Channel, open_channel

SUBSCRIBERS = 2


_SIZE = 256 * 1024


def body(number: int, size: int) -> bytes:
    return number.to_bytes(4, "big") * (size // 4) + bytes(size % 4)


def tell(key: str, value: int = 0) -> None:
    print(f'{{"{key}": {value}}}', flush=True)


async def subscribe(channel: Channel, count: int) -> None:
    async with channel.subscribe("big", queue=1 << 30) as subscription:
        tell("ready")
        for number in range(count):
            message = await subscription.get()
            assert message.body == body(number, _SIZE), f"{message.body[:4]!r} for {number}"
            assert not message.missed
        tell("all")
        await channel.publish("done", "all", confirm=True)
        await asyncio.Event().wait()


async def publish(channel: Channel, count: int) -> None:
    async with channel.subscribe("done") as done:
        tell("ready")
        for number in range(count):
            await channel.publish("big", body(number, _SIZE))
            if number % 50 == 0:
                await channel.flush()
                tell("confirmed", number)
        for _ in range(SUBSCRIBERS):
            await done.get()
        tell("done")


async def host(channel: Channel, count: int) -> None:
    tell("ready")
    await asyncio.Event().wait()


async def main(role: str, count: int) -> None:
    async with open_channel("shop", hosts=role == "host") as channel:
        await {"host": host, "publish": publish, "subscribe": subscribe}[role](channel, count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
