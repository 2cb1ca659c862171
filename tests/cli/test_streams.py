"""The standard streams of a command: closed ones, and an output that nobody reads any more."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from open_channel.sync import Channel, open_channel
from tests.processes import DEADLINE, wait_for

COMMAND = (sys.executable, "-m", "open_channel")

watched = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")


@pytest.fixture
def shop(channel_dir: Path) -> Iterator[Channel]:
    """Give a member of a channel, its host, that repeats what it is asked."""
    with open_channel("shop") as channel, channel.serve("echo", lambda request: request.data):
        yield channel


@contextlib.contextmanager
def started(*arguments: str, closed: str = "", **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command; ``closed`` is what a shell calls the closing of a stream, as ``<&-``."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    # What is left in the buffers at the end is what this is about.
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    through = ("sh", "-c", f'exec "$@" {closed}', "sh")
    with subprocess.Popen(
        [*through, *COMMAND, *arguments], stderr=subprocess.PIPE, env=buffered, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, list[str]]:
    """Wait for its end; return its exit code and the lines that it has not said before."""
    return process.wait(DEADLINE), process.stderr.read().decode().splitlines()


# --- closed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("pub", "shop", "a", "-"),
        ("pub", "shop", "a", "-", "--whole", "--json"),
        ("req", "shop", "echo", "-"),
    ],
)
def test_a_closed_input_is_an_error(shop: Channel, arguments: tuple[str, ...]):
    with started(*arguments, closed="<&-") as process:
        assert ended(process) == (1, ["open-channel: standard input is closed"])


@pytest.mark.parametrize("arguments", [("pub", "shop", "a", "b"), ("req", "shop", "echo", "b")])
def test_a_closed_input_that_nobody_needs(shop: Channel, arguments: tuple[str, ...]):
    with started(*arguments, closed="<&-") as process:
        assert ended(process) == (0, [])
        assert process.stdout.read() in (b"1 message published\n", b"b\n")


def test_a_subscriber_whose_output_is_closed(shop: Channel):
    with started("sub", "shop", "a", "--count", "2", closed=">&-") as process:
        assert b"subscribed" in process.stderr.readline()
        shop.publish("a", "where nothing tells, this does")
        assert ended(process) == (0, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("pub", "shop", "a", "b"),
        ("req", "shop", "echo", "b"),
        ("req", "shop", "echo", "b", "--all"),
        ("members", "shop", "--json"),
        ("members", "shop", "--watch"),
        ("top", "shop"),
        ("ls",),
        ("--version",),
    ],
)
def test_a_closed_output(shop: Channel, arguments: tuple[str, ...]):
    with started(*arguments, closed=">&-") as process, open_channel("shop"):
        assert ended(process) == (0, [])


def test_errors_go_nowhere_else_when_their_stream_is_closed(channel_dir: Path):
    with started("pub", "shop", "a", "7", "--json", closed="2>&-") as process:
        assert ended(process) == (0, [])
        assert json.loads(process.stdout.read()) == {"published": 1, "left_out": []}


def test_all_of_them_closed(shop: Channel):
    with shop.subscribe("a") as messages:
        with started("pub", "shop", "a", "b", closed="<&- >&- 2>&-") as process:
            assert ended(process) == (0, [])
        assert messages.get(DEADLINE).data == b"b"


# --- unread ---------------------------------------------------------------------------------------


def test_a_failure_whose_document_nobody_reads(channel_dir: Path):
    channel_dir.chmod(0o755)
    with started("doctor", "--json", closed=">&-") as process:
        assert ended(process) == (1, [f"open-channel: 1 problem in {channel_dir}"])


@watched
def test_members_that_nobody_watches_any_more(shop: Channel):
    with started("members", "shop", "--watch") as process:
        assert process.stdout.readline().startswith(b"present")
        process.stdout.close()
        assert ended(process) == (0, [])
    wait_for(lambda: [one.id for one in shop.members] == [shop.member], "it has left")


@watched
@pytest.mark.parametrize("options", [(), ("--count", "3"), ("--group", "g", "--json")])
def test_a_quiet_subscription_that_nobody_reads(shop: Channel, options: tuple[str, ...]):
    with started("sub", "shop", "quiet", *options) as process:
        assert b"subscribed" in process.stderr.readline()
        process.stdout.close()
        assert ended(process) == (0, [])
    wait_for(lambda: [one.id for one in shop.members] == [shop.member], "it has left")


@watched
def test_a_socket_that_nobody_reads(shop: Channel):
    ours, theirs = socket.socketpair()
    with ours, theirs, started("sub", "shop", "quiet", stdout=theirs) as process:
        assert b"subscribed" in process.stderr.readline()
        theirs.close()
        ours.close()
        assert ended(process) == (0, [])


def test_a_socket_with_something_to_read(shop: Channel):
    ours, theirs = socket.socketpair()
    with ours, theirs, started("sub", "shop", "a", "--count", "2", stdout=theirs) as process:
        assert b"subscribed" in process.stderr.readline()
        ours.sendall(b"what nobody reads")
        shop.publish("a", "first")
        assert ours.recv(100) == b"a first\n"
        ours.shutdown(socket.SHUT_WR)
        shop.publish("a", "second")
        assert ours.recv(100) == b"a second\n"
        assert ended(process) == (0, [])


def test_a_terminal_at_which_somebody_types(shop: Channel):
    ours, theirs = pty.openpty()
    with (
        open(ours, "r+b", buffering=0) as terminal,
        started("sub", "shop", "a", "--count", "1", stdout=theirs) as process,
    ):
        assert b"subscribed" in process.stderr.readline()
        terminal.write(b"typed\n")
        assert terminal.readline() == b"typed\r\n"  # the echo
        shop.publish("a", "first")
        assert terminal.readline() == b"a first\r\n"
        assert ended(process) == (0, [])
    os.close(theirs)


def test_a_file(shop: Channel, tmp_path: Path):
    path = tmp_path / "output"
    with (
        path.open("wb") as file,
        started("sub", "shop", "a", "--count", "1", stdout=file) as process,
    ):
        assert b"subscribed" in process.stderr.readline()
        shop.publish("a", "first")
        assert ended(process) == (0, [])
    assert path.read_bytes() == b"a first\n"


def test_what_is_published_is_published_whoever_reads(shop: Channel):
    with (
        shop.subscribe("a") as messages,
        started("pub", "shop", "a", "-", stdin=subprocess.PIPE) as process,
    ):
        process.stdout.close()
        for line in (b"first", b"second"):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            assert messages.get(DEADLINE).data == line
        process.stdin.close()
        assert ended(process) == (0, [])
