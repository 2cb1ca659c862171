"""What the tests of the command line share: running a command, and a lock held by a false host."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from open_channel.channel.listener import SERVICE
from open_channel.cli.app import app
from open_channel.io.directory import ChannelFiles
from open_channel.io.lockfile import LockFile
from open_channel.protocol.records import HostRecord, encode_record


@pytest.fixture
def run() -> Callable[..., Any]:
    """Give a function that runs a command in this process, and checks its exit code."""

    def invoke(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def run_json(run: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that runs a command with --json, and parses what it prints."""
    return lambda *arguments, code=0: json.loads(run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def hold(channel_dir: Path) -> Iterator[Callable[..., LockFile]]:
    """Give a function that takes a channel's lock and writes a host's record, without a host."""
    locks: list[LockFile] = []

    def take(name: str, pid: int | None = None, file: str = "none") -> LockFile:
        lock = LockFile.acquire(ChannelFiles.of(str(channel_dir), name).lock(SERVICE[0]))
        assert lock is not None
        pid = os.getpid() if pid is None else pid
        since = time.time() - 3725.0
        lock.write(encode_record(HostRecord(name, SERVICE, 1, 7, file, pid, "0" * 32, since)))
        locks.append(lock)
        return lock

    yield take
    for lock in locks:
        lock.release()
