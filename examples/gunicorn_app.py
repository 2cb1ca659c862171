"""A web application whose gunicorn workers count together.

    gunicorn --workers 4 --chdir examples gunicorn_app:app

Each answer names the worker that gave it, and the number of requests to all workers. With and
without --preload: the channel is opened at import and connected with the first request, in the
worker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from open_channel.sync import ChannelSocket, open_channel

requests = 0  # in use in the worker that hosts
counting = threading.Lock()  # there, each client has a thread


def listener(socket: ChannelSocket) -> None:
    global requests
    for number in socket:
        with counting:
            requests += 1
            answer = b"%b %d" % (number, requests)
        socket.write(answer)


channel = open_channel("examples.gunicorn", listener)
asking = threading.Lock()
asked = 0


def count() -> int:
    """Count a request; return the number of requests to all workers."""
    global asked
    with asking:
        asked += 1
        socket = channel.connect()  # the same socket each time
        socket.write(b"%d" % asked)
        answered = counted = 0
        while answered != asked:
            answered, counted = map(int, socket.read(timeout=10).split())
        return counted


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"pid {os.getpid()}: {count()}\n".encode()]
