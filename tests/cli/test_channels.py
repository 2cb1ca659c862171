"""`ls` and `info`, with real channels and with what dead ones leave."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from open_channel import ChannelSocket, open_channel
from open_channel.cli.output import age

NAME = "shop [red] ünï"  # what looks like markup is none


async def echo(socket: ChannelSocket) -> None:
    async for message in socket:
        socket.write(message)


@pytest.fixture
async def members(channel_dir: Path) -> AsyncIterator[list[ChannelSocket]]:
    """Give two members of one channel: the host, and one that does not listen."""
    sockets: list[ChannelSocket] = []
    for listener in (echo, None):
        socket = open_channel(NAME, listener).connect()
        await socket.wait_connected()
        sockets.append(socket)
    yield sockets
    for socket in reversed(sockets):
        await socket.close()


def words(line: str) -> list[str]:
    return line.replace(NAME, "NAME").split()


# --- ls -------------------------------------------------------------------------------------------


async def test_ls(run: Callable[..., Any], members: list[ChannelSocket]):
    lines = [words(line) for line in run("ls").stdout.splitlines()]
    row = next(line for line in lines if "NAME" in line)
    assert row[:4] == ["NAME", "listener", str(os.getpid()), "1"]
    assert row[-1] == "2"


async def test_ls_json(
    run_json: Callable[..., Any], channel_dir: Path, members: list[ChannelSocket]
):
    document = run_json("ls")
    assert (document["directory"], document["why"]) == (str(channel_dir), "$OPEN_CHANNEL_DIR")
    (channel,) = document["channels"]
    host = channel["services"]["listener"]
    assert (channel["name"], host["pid"], host["epoch"]) == (NAME, os.getpid(), 1)
    assert host["alive"]
    assert 0 <= host["age"] < 60
    assert [member["listens"] for member in channel["members"]] == [True, False]


@pytest.mark.parametrize("command", [["ls"], ["info", NAME], ["doctor"]])
async def test_it_prints_whatever_the_encoding(members: list[ChannelSocket], command: list[str]):
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "open_channel", *command],
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"shop [red] \\xfcn\\xef" in output


def test_ls_shows_a_dead_host_as_nobody(run: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat", pid=4711).release()
    output = run("ls").stdout
    assert "nobody" in output
    assert "4711" not in output


def test_ls_tells_for_how_long(run: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat", pid=4711)
    output = run("ls").stdout
    assert "4711" in output
    assert "1 h 2 min" in output


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/", path)])
@pytest.mark.parametrize("kind", ["l", "m." + "0" * 32])
async def test_what_is_no_file_hides_nothing(
    run: Callable[..., Any], members: list[ChannelSocket], channel_dir: Path, kind: str, make
):
    make(channel_dir / f"{'0' * 20}.{kind}")
    assert str(os.getpid()) in run("ls").stdout
    assert str(os.getpid()) in run("info", NAME).stdout
    assert run("doctor").exit_code in (0, 1)


def test_ls_of_nothing_as_json(run_json: Callable[..., Any], channel_dir: Path):
    assert run_json("ls")["channels"] == []


def test_ls_of_a_host_that_has_not_published(run: Callable[..., Any], hold: Callable[..., Any]):
    lock = hold("chat")
    lock.write(b"")
    assert run("ls").stdout.startswith("No channels")  # nothing says its name


# --- info -----------------------------------------------------------------------------------------


async def test_info(run: Callable[..., Any], channel_dir: Path, members: list[ChannelSocket]):
    output = run("info", NAME).stdout
    for fact in (NAME, f"{channel_dir} ($OPEN_CHANNEL_DIR)", "epoch 1", "pulse", "2 members"):
        assert fact in output
    assert f"host     pid {os.getpid()}" in output


async def test_info_json(run_json: Callable[..., Any], members: list[ChannelSocket]):
    document = run_json("info", NAME)
    host = document["services"]["listener"]
    assert host["held"]
    assert host["record"]["pid"] == os.getpid()
    assert 0 <= host["pulse_age"] < 60
    assert Path(host["lock"]).exists()
    assert {member["pid"] for member in document["members"]} == {os.getpid()}


def test_info_of_a_dead_channel(run: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat", pid=4711).release()
    output = run("info", "chat").stdout
    assert "nobody; the last was pid 4711, epoch 7" in output
    assert "(free)" in output
    assert "No living members." in output


def test_info_of_a_host_that_has_not_published(run: Callable[..., Any], hold: Callable[..., Any]):
    hold("chat").write(b"")
    assert "not published yet" in run("info", "chat").stdout


def test_info_of_an_unknown_channel(run: Callable[..., Any], channel_dir: Path):
    result = run("info", "nope", code=1)
    assert result.stdout == ""
    expected = f"open-channel: no channel 'nope' in {channel_dir} ($OPEN_CHANNEL_DIR)\n"
    assert result.stderr == expected


def test_info_of_an_impossible_name(run: Callable[..., Any], channel_dir: Path):
    assert "it is empty" in run("info", "", code=1).stderr


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0.0 s"),
        (0.25, "0.2 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (3725.0, "1 h 2 min"),
        (3605.0, "1 h"),
        (2 * 86400 + 3600, "2 d 1 h"),
    ],
)
def test_age(seconds: float, text: str):
    assert age(seconds) == text
