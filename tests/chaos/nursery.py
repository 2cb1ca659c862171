"""Where the processes of a chaos run are born: forked from one that has imported all it takes.

A Python process takes a third of a second to start, and hundreds of them die in a run. This one has
one thread and no event loop, and nothing of the library runs in it, so what it forks is as good as
new. It never reaps: so nobody else gets the pid of a process that is dead, and no signal of the
run can meet a stranger. When its socket is closed it ends all process groups that it began.

    python nursery.py FD
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import uvloop  # noqa: F401 (imported once, here)

import open_channel.bus.client
import open_channel.bus.host
import open_channel.bus.locks
import open_channel.bus.requests
import open_channel.bus.service
import open_channel.sync.bus
import open_channel.sync.service
import open_channel.sync.subscription  # noqa: F401
from tests.chaos import on_asyncio, on_threads
from tests.chaos.notes import Config

LONGEST = 65536  # bytes of a configuration


def be(config: Config) -> None:
    """Live the life of one process."""
    logging.basicConfig(level=logging.WARNING, format="%(created).3f %(levelname)s %(message)s")
    if config.runtime == "blocking":
        on_threads.live(config)
    else:
        on_asyncio.live(config)


def bear(config: Config, stdin: int, stderr: int, mother: socket.socket) -> int:
    """Fork one process; return its pid."""
    if child := os.fork():
        return child
    try:
        os.setsid()
        mother.close()
        os.dup2(stdin, 0)
        os.dup2(stderr, 1)
        os.dup2(stderr, 2)
        os.close(stdin)
        os.close(stderr)
        be(config)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Bear whom the socket asks for, until it is closed."""
    mother = socket.socket(fileno=int(sys.argv[1]))
    children = []
    while True:
        request, files, _, _ = socket.recv_fds(mother, LONGEST, 2)
        if not request:
            break
        stdin, stderr = files
        child = bear(Config(**json.loads(request)), stdin, stderr, mother)
        for file in files:
            os.close(file)
        children.append(child)
        mother.send(str(child).encode())
    for child in children:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
