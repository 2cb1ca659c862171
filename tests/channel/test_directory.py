"""The directory is somebody else's all of a sudden."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from open_channel import ConnectTimeout
from tests.channel.steps import Opener, echo, eventually


async def test_a_directory_that_lets_others_in_is_not_used_any_more(
    opened: Opener, channel_dir: Path, caplog: pytest.LogCaptureFixture
):
    channel, socket = await opened.connected("moved", echo)
    socket.write(b"1")
    assert await socket.read() == b"1"
    channel_dir.rename(channel_dir.with_suffix(".old"))
    channel_dir.mkdir()
    channel_dir.chmod(0o777)
    await eventually(lambda: not channel.connected)
    await eventually(lambda: "lets others in" in caplog.text)
    assert os.listdir(channel_dir) == []
    said = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 1
    socket.write(b"2")
    reading = asyncio.create_task(socket.read())
    channel_dir.chmod(0o700)
    assert await reading == b"2"
    assert channel.connected


async def test_what_is_in_the_way_is_the_reason(opened: Opener, channel_dir: Path):
    channel = opened("late", echo)
    socket = channel.connect(timeout=0.3)
    channel_dir.chmod(0o755)
    with pytest.raises(ConnectTimeout) as caught:
        await socket.wait_connected()
    assert "lets others in" in caught.value.last
    channel_dir.chmod(0o700)
