"""eclipse-zenoh: sessions connected directly, and through a router in a third process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import Crew, say

from peers.ledger import SMALL, Tally, ask, give, to_topics
from peers.peer import Peer, Place, nothing_between

KEY = "orders/eu"
SHARED = 64 << 20
"""Bytes of shared memory from which a publisher's large bodies are taken."""


@contextmanager
def opened(mode: str, address: str, *, listens: bool = False) -> Iterator[Any]:
    import zenoh

    zenoh.init_log_from_env_or("error")
    endpoint = [f"unixsock-stream/{address}"]
    config = zenoh.Config()
    for name, value in {
        "mode": mode,
        "scouting/multicast/enabled": False,
        "scouting/gossip/enabled": False,
        "scouting/delay": 0,
        "listen/endpoints": endpoint if listens else [],
        "connect/endpoints": [] if listens else endpoint,
        "connect/timeout_ms": 5000,
        "transport/shared_memory/enabled": True,
    }.items():
        config.insert_json5(name, json.dumps(value))
    with zenoh.open(config) as session:
        yield session


def router(address: str) -> None:
    with opened("router", address, listens=True):
        say(ready=True)
        sys.stdin.read()


def start(crew: Crew, _loop: str) -> Place:
    address = str(crew.directory / "router")
    process = crew.spawn(router, address=address)
    process.hear()
    return Place(address, process.pid)


def receive(address: str, index: int, count: int, size: int, mode: str, topics: int = 1) -> None:
    tally = Tally(count, size)

    def take(sample: Any) -> None:
        tally.take(sample.payload.to_bytes())

    # Directly connected, the publisher is the one that listens.
    with opened(mode, address) as session:
        key = KEY if topics == 1 else f"{KEY}/**"
        subscriber = session.declare_subscriber(key, take)
        say(listening=True)
        sys.stdin.read()
        subscriber.undeclare()


def send(address: str, receivers: int, count: int, size: int, mode: str, topics: int = 1) -> None:
    import zenoh

    with opened(mode, address, listens=mode == "peer") as session:

        def sender(key: str) -> Callable[[Any], object]:
            publisher = session.declare_publisher(
                key, congestion_control=zenoh.CongestionControl.BLOCK
            )
            if size <= SMALL:
                return publisher.put
            return _through_memory(publisher.put)

        stream = to_topics([sender(f"{KEY}/{number}") for number in range(topics)])
        give(sender(KEY), count, size, stream=stream if topics > 1 else None)


def _through_memory(put: Callable[[Any], object]) -> Callable[[Any], object]:
    from zenoh.shm import BlockOn, GarbageCollect, ShmProvider

    provider = ShmProvider.default_backend(SHARED)
    policy = BlockOn(GarbageCollect())

    def send(body: Any) -> None:
        buffer = provider.alloc(len(body), policy=policy)
        buffer[:] = body
        put(buffer)

    return send


def respond(address: str, mode: str) -> None:
    with opened(mode, address, listens=mode == "peer") as session:
        queryable = session.declare_queryable(
            "echo", lambda query: query.reply("echo", query.payload), complete=True
        )
        say(listening=True)
        sys.stdin.read()
        queryable.undeclare()


def request(address: str, count: int, size: int, fresh: bool, mode: str) -> None:
    import zenoh

    @contextmanager
    def client() -> Iterator[Callable[[bytes], bytes]]:
        with opened(mode, address) as session:
            querier = session.declare_querier(
                "echo", target=zenoh.QueryTarget.BEST_MATCHING, timeout=5.0
            )
            matches = querier.declare_matching_listener()
            while not querier.matching_status.matching:
                matches.recv()

            def send(body: bytes) -> bytes:
                return bytes(querier.get(payload=body).recv().ok.payload.to_bytes())

            yield send

    ask(client, count, size, fresh)


SETUP = (
    "over `unixsock-stream`, scouting off; a declared publisher with `CongestionControl.BLOCK`, a"
    " subscriber with a callback, large bodies through its shared memory (`ShmProvider`); requests:"
    " a declared querier and a queryable."
)
PEERS = [
    Peer(
        key="zenoh-direct",
        name="zenoh, direct",
        kind="direct",
        setup=f"Two peer sessions {SETUP}",
        start=nothing_between,
        receive=receive,
        send=send,
        respond=respond,
        request=request,
        modules=("zenoh",),
        options={"mode": "peer"},
        topics=True,
    ),
    Peer(
        key="zenoh-router",
        name="zenoh through a router",
        kind="brokered",
        setup=f"Client sessions and a router session in a third process {SETUP}",
        start=start,
        receive=receive,
        send=send,
        respond=respond,
        request=request,
        modules=("zenoh",),
        options={"mode": "client"},
        topics=True,
    ),
]
