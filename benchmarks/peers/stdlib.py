"""The standard library: multiprocessing's connections and managers, and asyncio's streams."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.managers import BaseManager
from queue import Queue
from typing import Any

from harness import Crew, say, until_dismissed

from peers.ledger import SMALL, ask, ask_async, give, give_async, take, take_async, to_all
from peers.peer import Peer, Place, nothing_between

LENGTH = struct.Struct("<I")


# --- multiprocessing.connection -------------------------------------------------------------------


def connection_receive(address: str, index: int, count: int, size: int) -> None:
    with Listener(f"{address}-{index}", "AF_UNIX") as listener:
        say(listening=True)
        with listener.accept() as connection:
            take(connection.recv_bytes, count, size)


def connection_send(address: str, receivers: int, count: int, size: int) -> None:
    ends = [Client(f"{address}-{index}", "AF_UNIX") for index in range(receivers)]
    give(to_all([end.send_bytes for end in ends]), count, size)


def connection_respond(address: str) -> None:
    with Listener(address, "AF_UNIX", backlog=64) as listener:
        say(listening=True)
        while True:
            with listener.accept() as connection:
                _answer(connection)


def _answer(connection: Connection[Any, Any]) -> None:
    try:
        while True:
            connection.send_bytes(connection.recv_bytes())
    except EOFError:
        return


def connection_request(address: str, count: int, size: int, fresh: bool) -> None:
    @contextmanager
    def client() -> Iterator[Callable[[bytes], bytes]]:
        with Client(address, "AF_UNIX") as connection:

            def send(body: bytes) -> bytes:
                connection.send_bytes(body)
                return connection.recv_bytes()

            yield send

    ask(client, count, size, fresh)


# --- multiprocessing.managers ---------------------------------------------------------------------


class Manager(BaseManager):
    """Queues by name in a process of their own."""


BOUND = 10_000
"""Messages in a queue; ``put()`` waits while it is full."""


def manager(address: str, bound: int) -> None:
    queues: dict[str, Queue[Any]] = {}

    def queue(name: str) -> Queue[Any]:
        return queues.setdefault(name, Queue(bound))

    Manager.register("queue", queue)
    server = Manager(address, b"bench").get_server()
    say(ready=True)
    server.serve_forever()


def start_manager(crew: Crew, _loop: str) -> Place:
    address = str(crew.directory / "manager")
    process = crew.spawn(manager, address=address, bound=BOUND)
    process.hear()
    return Place(address, process.pid)


def managed(address: str) -> Any:
    Manager.register("queue")
    manager = Manager(address, b"bench")
    manager.connect()
    return manager


def queue_receive(address: str, index: int, count: int, size: int) -> None:
    queue = managed(address).queue(f"stream-{index}")
    say(listening=True)
    take(queue.get, count, size)


def queue_send(address: str, receivers: int, count: int, size: int) -> None:
    held = managed(address)
    queues = [held.queue(f"stream-{index}") for index in range(receivers)]
    give(to_all([queue.put for queue in queues]), count, size)


def queue_respond(address: str) -> None:
    held = managed(address)
    jobs, answers = held.queue("jobs"), held.queue("answers")
    say(listening=True)
    while True:
        answers.put(jobs.get())


def queue_request(address: str, count: int, size: int, fresh: bool) -> None:
    @contextmanager
    def client() -> Iterator[Callable[[bytes], bytes]]:
        held = managed(address)
        jobs, answers = held.queue("jobs"), held.queue("answers")

        def send(body: bytes) -> bytes:
            jobs.put(body)
            return bytes(answers.get())

        yield send

    ask(client, count, size, fresh)


# --- asyncio's streams ----------------------------------------------------------------------------


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(4))
    return await reader.readexactly(length)


async def _write(writer: asyncio.StreamWriter, body: bytes) -> None:
    if len(body) <= SMALL:
        writer.write(LENGTH.pack(len(body)) + body)
    else:
        writer.write(LENGTH.pack(len(body)))
        writer.write(body)
    await writer.drain()


async def streams_receive(address: str, index: int, count: int, size: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_async(partial(_read, reader), count, size)

    await asyncio.start_unix_server(serve, f"{address}-{index}", limit=1 << 20)
    say(listening=True)
    await until_dismissed()


async def streams_send(address: str, receivers: int, count: int, size: int) -> None:
    writers = [
        (await asyncio.open_unix_connection(f"{address}-{index}"))[1] for index in range(receivers)
    ]
    if receivers == 1:
        await give_async([partial(_write, writers[0])], count, size)
        return

    async def send(body: bytes) -> None:
        for writer in writers:
            await _write(writer, body)

    await give_async([send], count, size)


async def relay(address: str) -> None:
    """Passes each message of a requester on to the responder, and its answer back."""
    responder = asyncio.get_running_loop().create_future()
    one_at_a_time = asyncio.Lock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not responder.done():
            responder.set_result((reader, writer))
            return
        there = await responder
        try:
            while True:
                body = await _read(reader)
                async with one_at_a_time:
                    await _write(there[1], body)
                    answer = await _read(there[0])
                await _write(writer, answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    await asyncio.start_unix_server(serve, address)
    say(ready=True)
    await until_dismissed()


def start_relay(crew: Crew, loop: str) -> Place:
    address = str(crew.directory / "relay")
    process = crew.spawn(relay, loop=loop, address=address)
    process.hear()
    return Place(address, process.pid)


async def streams_respond(address: str) -> None:
    reader, writer = await asyncio.open_unix_connection(address)
    say(listening=True)
    while True:
        await _write(writer, await _read(reader))


async def streams_request(address: str, count: int, size: int, fresh: bool) -> None:
    @asynccontextmanager
    async def client() -> AsyncIterator[Any]:
        reader, writer = await asyncio.open_unix_connection(address)

        async def send(body: bytes) -> bytes:
            await _write(writer, body)
            return await _read(reader)

        yield send
        writer.close()

    await ask_async(client, count, size, fresh)


PEERS = [
    Peer(
        key="mp-connection",
        name="multiprocessing.connection, direct",
        kind="direct",
        setup=(
            "`Listener` and `Client` over a Unix socket, directly connected, `send_bytes()` and"
            " `recv_bytes()`; to several receivers one after the other."
        ),
        start=nothing_between,
        receive=connection_receive,
        send=connection_send,
        respond=connection_respond,
        request=connection_request,
    ),
    Peer(
        key="mp-manager",
        name="multiprocessing.managers",
        kind="brokered",
        setup=(
            "A `BaseManager` in a third process over a Unix socket, one `queue.Queue` of 10,000 for"
            " each receiver; `put()` and `get()` through its proxies; requests by two queues."
        ),
        start=start_manager,
        receive=queue_receive,
        send=queue_send,
        respond=queue_respond,
        request=queue_request,
    ),
    Peer(
        key="asyncio-streams",
        name="asyncio streams, direct",
        kind="direct",
        setup=(
            "`StreamWriter` and `StreamReader` over a Unix socket under uvloop, a length before"
            " each message, `drain()` after each; to several receivers one after the other."
        ),
        start=nothing_between,
        receive=streams_receive,
        send=streams_send,
        modules=("uvloop",),
        loop="uvloop",
    ),
    Peer(
        key="asyncio-relay",
        name="asyncio streams, four hops",
        kind="floor",
        setup="The same with a third process in the middle that passes messages on; uvloop.",
        start=start_relay,
        respond=streams_respond,
        request=streams_request,
        modules=("uvloop",),
        loop="uvloop",
    ),
]
