"""Members whose ``max_message`` is not their host's: the smaller one counts, with each host."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from open_channel import Channel, Limits, MessageTooLarge, NoResponders
from open_channel import sync as blocking
from tests.bus.conftest import Joiner
from tests.channel.steps import eventually

SMALL, LARGE = Limits(max_message=1_000_000), Limits(max_message=2_000_000)


async def refused(channel: Channel, size: int, limit: int) -> None:
    """Whatever publishes so much raises at once."""
    with pytest.raises(MessageTooLarge) as caught:
        await channel.publish("news", bytes(size))
    assert (caught.value.size, caught.value.limit) == (size, limit)
    with pytest.raises(MessageTooLarge):
        await channel.publish("news", bytes(size), confirm=True)
    with pytest.raises(MessageTooLarge):
        channel.publish_nowait("news", bytes(size))
    with pytest.raises(MessageTooLarge):
        await channel.request("ask", bytes(size))


@pytest.mark.parametrize("limit", [1000, 1_000_000])
async def test_what_the_host_does_not_take_is_refused_and_not_kept(join: Joiner, limit: int):
    host = await join(limits=Limits(max_message=limit))
    member = await join(hosts=False, limits=LARGE)
    async with asyncio.timeout(20), host.subscribe("news") as news:
        await member.publish("news", b"first", confirm=True)
        await refused(member, limit + 1, limit)
        await member.publish("news", bytes(limit))
        await member.flush()
        assert member.stats().unacknowledged == 0
        with pytest.raises(NoResponders):
            await member.request("ask", bytes(limit))
        assert [len((await news.get()).body) for _ in range(2)] == [5, limit]
        assert news.backlog == 0


async def test_a_reply_that_the_host_does_not_take_is_an_error(join: Joiner):
    host = await join(limits=SMALL)
    member = await join(hosts=False, limits=LARGE)
    async with asyncio.timeout(20), member.serve("ask", lambda _: bytes(1_000_001)):
        with pytest.raises(Exception, match=r"MessageTooLarge.*1000001.*1000000"):
            await host.request("ask")


async def test_the_next_host_may_take_more(join: Joiner):
    host = await join(limits=SMALL)
    member = await join(hosts=False, limits=LARGE)
    async with asyncio.timeout(20):
        await refused(member, 1_500_000, 1_000_000)
        await host.close()
        other = await join(limits=LARGE)
        await eventually(lambda: member.connected)
        async with other.subscribe("news") as news:
            await member.publish("news", bytes(1_500_000), confirm=True)
            assert len((await news.get()).body) == 1_500_000
        await refused(member, 2_000_001, 2_000_000)


async def test_a_message_that_waits_and_is_too_large_for_the_next_host_closes_the_channel(
    join: Joiner, caplog: pytest.LogCaptureFixture
):
    host = await join(limits=LARGE)
    member = await join(hosts=False, limits=LARGE)
    async with asyncio.timeout(20):
        await host.close()
        await eventually(lambda: not member.connected)
        member.publish_nowait("news", bytes(1_500_000))
        await join(limits=SMALL)
        with pytest.raises(MessageTooLarge) as caught:
            await member.flush()
        assert caught.value.limit == 1_000_000
        assert member.state == "closed"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_the_blocking_api_refuses_it_as_well(channel_dir: Path):
    with (
        blocking.open_channel("sizes", limits=SMALL) as host,
        host.subscribe("news") as news,
        blocking.open_channel("sizes", limits=LARGE, hosts=False) as member,
    ):
        member.publish("news", b"first", confirm=True, timeout=10)
        for size in (1_000_001, 1_900_000):
            with pytest.raises(MessageTooLarge):
                member.publish("news", bytes(size))
            with pytest.raises(MessageTooLarge):
                member.publish_nowait("news", bytes(size))
            with pytest.raises(MessageTooLarge):
                member.publish("news", bytes(size), confirm=True)
        member.publish("news", bytes(1_000_000))
        assert member.flush(timeout=10) == ()
        assert [len(news.get(timeout=10).body) for _ in range(2)] == [5, 1_000_000]


def test_the_blocking_api_tells_of_what_was_published_before(channel_dir: Path):
    with blocking.open_channel("sizes", limits=LARGE) as host:
        member = blocking.open_channel("sizes", limits=LARGE, hosts=False)
        member.publish("news", b"first", confirm=True, timeout=10)
    member.publish("news", bytes(1_500_000))
    with blocking.open_channel("sizes", limits=SMALL), pytest.raises(MessageTooLarge):
        member.flush(timeout=10)
    assert host.state == member.state == "closed"
