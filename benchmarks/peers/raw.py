"""The floors: what plain Python does over the same kind of socket, with nothing around it."""

from __future__ import annotations

import selectors
import socket as sockets
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import BenchmarkError, Crew, say

from peers.ledger import SMALL, Tally, ask, give
from peers.peer import Peer, Place, nothing_between

BATCH_BYTES = 1 << 16
HEADER = struct.Struct("<II")  # messages in the batch, bytes of their bodies


# --- a stream, framed in batches ------------------------------------------------------------------


def accept(path: str) -> sockets.socket:
    with sockets.socket(sockets.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        say(listening=True)
        return server.accept()[0]


def receive(address: str, index: int, count: int, size: int) -> None:
    connection = accept(f"{address}-{index}")
    tally = Tally(count, size)
    buffer = memoryview(bytearray(2 * BATCH_BYTES))
    marked = False
    while True:
        fill(connection, buffer[: HEADER.size])
        messages, volume = HEADER.unpack_from(buffer)
        if volume > BATCH_BYTES + SMALL:  # large: alone in its batch
            whole = memoryview(bytearray(4 + volume))
            fill(connection, whole)
            some: list[Any] = [whole[4:]]
        else:
            frame = buffer[: 4 * messages + volume]
            fill(connection, frame)
            some = unpack(frame, messages)
        if not marked:
            marked = any(tally.begin(body) for body in some)
        elif tally.extend(some):
            break
    sys.stdin.read()


def unpack(frame: memoryview, messages: int) -> list[bytes]:
    lengths = struct.unpack_from(f"<{messages}I", frame)
    joined = bytes(frame[4 * messages :])
    some: list[bytes] = []
    start = 0
    for length in lengths:
        end = start + length
        some.append(joined[start:end])
        start = end
    return some


def fill(connection: sockets.socket, buffer: memoryview) -> None:
    filled = 0
    while filled < len(buffer):
        got = connection.recv_into(buffer[filled:])
        if not got:
            raise BenchmarkError("the sender ended early")
        filled += got


def send(address: str, receivers: int, count: int, size: int) -> None:
    connections = [sockets.socket(sockets.AF_UNIX) for _ in range(receivers)]
    for index, connection in enumerate(connections):
        connection.connect(f"{address}-{index}")

    def send_batch(batch: list[bytes], volume: int) -> None:
        lengths = struct.pack(f"<{len(batch)}I", *map(len, batch))
        head = HEADER.pack(len(batch), volume) + lengths
        if volume > BATCH_BYTES + SMALL:
            for connection in connections:
                connection.sendall(head)
                connection.sendall(batch[0])
            return
        whole = b"".join([head, *batch])
        for connection in connections:
            connection.sendall(whole)

    def stream(many: Iterable[bytes]) -> None:
        batch: list[bytes] = []
        volume = 0
        for body in many:
            batch.append(body)
            volume += len(body)
            if volume >= BATCH_BYTES:
                send_batch(batch, volume)
                batch = []
                volume = 0
        if batch:
            send_batch(batch, volume)

    give(lambda body: send_batch([body], len(body)), count, size, stream=stream)


# --- four hops ------------------------------------------------------------------------------------


def middle(path: str) -> None:
    """Passes on what comes from either end; a new requester takes the place of the old one."""
    with sockets.socket(sockets.AF_UNIX) as server, selectors.DefaultSelector() as selector:
        server.bind(path)
        server.listen()
        say(ready=True)
        responder = server.accept()[0]
        other: dict[Any, Any] = {}
        selector.register(server, selectors.EVENT_READ)
        selector.register(responder, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                end: Any = key.fileobj
                if end is server:
                    requester = server.accept()[0]
                    other[requester], other[responder] = responder, requester
                    selector.register(requester, selectors.EVENT_READ)
                    continue
                data = end.recv(65536)
                if data:
                    other[end].send(data)
                else:
                    selector.unregister(end)
                    end.close()


def start_middle(crew: Crew, _loop: str) -> Place:
    path = str(crew.directory / "middle")
    process = crew.spawn(middle, path=path)
    process.hear()
    return Place(path, process.pid)


def respond(address: str) -> None:
    with sockets.socket(sockets.AF_UNIX) as end:
        end.connect(address)
        say(listening=True)
        while data := end.recv(65536):
            end.sendall(data)


def request(address: str, count: int, size: int, fresh: bool) -> None:
    @contextmanager
    def client() -> Iterator[Callable[[bytes], bytes]]:
        with sockets.socket(sockets.AF_UNIX) as end:
            end.connect(address)

            def send(body: bytes) -> bytes:
                end.sendall(body)
                return end.recv(65536)

            yield send

    ask(client, count, size, fresh)


PEERS = [
    Peer(
        key="raw-stream",
        name="bare sockets, framed in batches",
        kind="floor",
        setup=(
            "Two processes, a blocking Unix socket: 64 KiB of messages in one frame, one"
            " `sendall()`; no event loop, no third process, no acknowledgements, no topics."
        ),
        start=nothing_between,
        receive=receive,
        send=send,
    ),
    Peer(
        key="raw-hops",
        name="four bare hops",
        kind="floor",
        setup=(
            "A bare `selectors` loop in the middle that passes on what it gets, a blocking client,"
            " a blocking responder; no framing."
        ),
        start=start_middle,
        respond=respond,
        request=request,
    ),
]
