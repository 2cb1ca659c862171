"""Two web applications whose workers talk over a channel: WSGI (blocking) and ASGI (asyncio).

Each worker tells all of them what a request tells it. The listener is the same for everybody: who
hosts the channel passes each message on to all its clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import open_channel
import open_channel.sync as blocking

heard: list[str] = []

COUNT = b"count"  # a message that is not passed on, but answered with the number of clients


def as_message(said: str) -> bytes:
    """What is written for a request's query string."""
    return COUNT if said == COUNT.decode() else f"{os.getpid()} {said}".encode()


def state(peer: open_channel.Peer | None, connected: bool) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "peer": peer.pid if peer and connected else 0,
        "heard": heard,
    }


# --- gunicorn -------------------------------------------------------------------------------------

lock = threading.Lock()
clients: set[blocking.ChannelSocket] = set()


def broadcast(socket: blocking.ChannelSocket) -> None:
    with lock:
        clients.add(socket)
    try:
        for message in socket:
            with lock:
                if message == COUNT:
                    socket.write(b"%d clients of %d" % (len(clients), os.getpid()))
                    continue
                for client in clients:
                    with contextlib.suppress(open_channel.ChannelClosed):  # it is about to leave
                        client.write(message)
    finally:
        with lock:
            clients.discard(socket)


channel: blocking.Channel
at_import = os.environ.get("AT_IMPORT")
if at_import:  # under gunicorn --preload: in the parent, before it forks
    channel = blocking.open_channel("web", broadcast)
if at_import == "connect":
    channel.connect()


def listen() -> None:
    """What each worker does when it starts."""

    def hear() -> None:
        for message in channel.connect():
            heard.append(message.decode())

    threading.Thread(target=hear, daemon=True).start()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if said := environ["QUERY_STRING"]:
        channel.connect().write(as_message(said))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(state(channel.peer, channel.connected)).encode()]


# --- uvicorn --------------------------------------------------------------------------------------

sockets: set[open_channel.ChannelSocket] = set()


async def pass_on(socket: open_channel.ChannelSocket) -> None:
    sockets.add(socket)
    try:
        async for message in socket:
            if message == COUNT:
                socket.write(b"%d clients of %d" % (len(sockets), os.getpid()))
                continue
            for other in sockets:
                if not other.closed:
                    other.write(message)
    finally:
        sockets.discard(socket)


class Asgi:
    def __init__(self) -> None:
        self.channel = open_channel.open_channel("web", pass_on)
        self.tasks: set[asyncio.Task[None]] = set()

    async def hear(self, socket: open_channel.ChannelSocket) -> None:
        async for message in socket:
            heard.append(message.decode())

    async def lifespan(self, receive: Any, send: Any) -> None:
        await receive()
        socket = self.channel.connect()
        await socket.wait_connected()
        task = asyncio.create_task(self.hear(socket))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.channel.close(timeout=1)
        await task
        await send({"type": "lifespan.shutdown.complete"})

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any
    ) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        if said := scope["query_string"].decode():
            self.channel.connect().write(as_message(said))
        body = json.dumps(state(self.channel.peer, self.channel.connected)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


asgi = Asgi()
