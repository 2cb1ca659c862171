"""Servers of others: started on the loopback or a Unix socket, ended by the crew by their pid."""

from __future__ import annotations

import json
import os
import select
import socket as sockets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import BenchmarkError, Child, Crew

START = 15.0  # seconds


def start(crew: Crew, command: list[str], ready: Callable[[], str]) -> tuple[str, int]:
    """Run a server until the crew ends it. ``ready()`` is asked until it returns the address."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by Child.end
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=crew.directory
    )
    child = Child(command[0], process, log)
    crew.adopt(child)
    watch = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
    try:
        deadline = time.monotonic() + START
        while not (address := ready()):
            # Also the pause between two looks: it ends at once when the server does.
            ended = select.select([watch] if watch is not None else [], [], [], 0.01)[0]
            if ended or process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{command[0]} did not start\n{child.last_words()}")
    finally:
        if watch is not None:
            os.close(watch)
    return address, process.pid


def start_redis(crew: Crew) -> tuple[str, int]:
    path = crew.directory / "redis.sock"
    settings = {
        "port": "0",
        "unixsocket": str(path),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        # No bound: a subscriber that lags is not cut off, and loses nothing.
        "client-output-buffer-limit": "pubsub 0 0 0",
        "dir": str(crew.directory),
    }
    command = ["redis-server"]
    for name, value in settings.items():
        command += [f"--{name}", *(value.split() or [""])]
    return start(crew, command, lambda: str(path) if _accepts(path) else "")


def _accepts(path: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as end:
        try:
            end.connect(str(path))
        except OSError:
            return False
    return True


def start_nats(crew: Crew) -> tuple[str, int]:
    config = crew.directory / "nats.conf"
    # No bound that a test comes near: a subscriber that lags is not cut off, and loses nothing.
    config.write_text('max_payload: 8MB\nmax_pending: 4GB\nwrite_deadline: "60s"\n')
    place = crew.directory / "nats"
    place.mkdir()
    command = ["nats-server", "-c", str(config), "-a", "127.0.0.1", "-p", "-1"]
    command += ["--ports_file_dir", str(place)]

    def ready() -> str:
        for path in place.glob("*.ports"):
            try:
                return str(json.loads(path.read_text())["nats"][0])
            except ValueError:  # it is being written
                return ""
        return ""

    return start(crew, command, ready)
