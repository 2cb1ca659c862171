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


class Counter:
    """Counts, in any thread."""

    def __init__(self) -> None:
        self._value = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        with self._lock:
            self._value += 1
            return self._value


requests = Counter()  # in use in the worker that hosts; there, each client has a thread


def listener(socket: ChannelSocket) -> None:
    for number in socket:
        socket.write(b"%b %d" % (number, requests.next()))


channel = open_channel("examples.gunicorn", listener)
asking = threading.Lock()
questions = Counter()


def count() -> int:
    """Count a request; return the number of requests to all workers."""
    with asking:
        number = questions.next()
        socket = channel.connect()  # the same socket each time
        socket.write(b"%d" % number)
        answered = counted = 0
        while answered != number:
            answered, counted = map(int, socket.read(timeout=10).split())
        return counted


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"pid {os.getpid()}: {count()}\n".encode()]
