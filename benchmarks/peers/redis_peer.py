"""redis-py with a real redis-server."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from harness import Crew, say

from peers.ledger import SMALL, ask, give, take, to_topics
from peers.peer import Peer, Place
from peers.servers import start_redis

TOPIC = "orders.eu"
QUEUE = "echo"
BATCH = 1000
"""Commands in a pipeline; large bodies travel one by one."""


def start(crew: Crew, _loop: str) -> Place:
    return Place(*start_redis(crew))


@contextmanager
def connected(address: str) -> Iterator[Any]:
    import redis

    client = redis.Redis(unix_socket_path=address)
    try:
        yield client
    finally:
        client.close()


def receive(address: str, index: int, count: int, size: int, topics: int = 1) -> None:
    with connected(address) as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(TOPIC)
        if topics > 1:
            pubsub.psubscribe(f"{TOPIC}.*")
        client.ping()
        say(listening=True)
        messages = pubsub.listen()
        take(lambda: next(messages)["data"], count, size)


def send(address: str, receivers: int, count: int, size: int, topics: int = 1) -> None:
    with connected(address) as client:
        if size > SMALL:
            give(partial(client.publish, TOPIC), count, size)
            return
        pipeline = client.pipeline(transaction=False)
        commands = itertools.count(1)

        def sender(topic: str) -> Callable[[Any], None]:
            def publish(body: Any) -> None:
                pipeline.publish(topic, body)
                if not next(commands) % BATCH:
                    pipeline.execute()

            return publish

        stream = to_topics([sender(f"{TOPIC}.{number}") for number in range(topics)])
        give(sender(TOPIC), count, size, pipeline.execute, stream if topics > 1 else None)


def respond(address: str) -> None:
    with connected(address) as client:
        say(listening=True)
        _, job = client.blpop(QUEUE)
        while True:
            sender, _, body = job.partition(b" ")
            # The answer and the next wait in one trip.
            pipeline = client.pipeline(transaction=False)
            pipeline.rpush(sender, body)
            pipeline.blpop(QUEUE)
            _, (_, job) = pipeline.execute()


def request(address: str, count: int, size: int, fresh: bool) -> None:
    numbers = itertools.count()

    @contextmanager
    def client() -> Iterator[Callable[[bytes], bytes]]:
        answers = b"answers-%d" % next(numbers)
        with connected(address) as connection:

            def send(body: bytes) -> bytes:
                pipeline = connection.pipeline(transaction=False)
                pipeline.rpush(QUEUE, answers + b" " + body)
                pipeline.blpop(answers)
                return bytes(pipeline.execute()[1][1])

            yield send

    ask(client, count, size, fresh)


def crowd(address: str, members: int, subscriptions: int) -> None:
    with connected(address) as client:
        held = []
        for member in range(members):
            pubsub = client.pubsub(ignore_subscribe_messages=True)
            topics = [f"idle.{member}.{number}" for number in range(subscriptions)]
            pubsub.subscribe(*topics or [f"idle.{member}"])
            while pubsub.parse_response()[2] < max(1, subscriptions):
                pass
            held.append(pubsub)
        say(listening=True)
        sys.stdin.read()


PEERS = [
    Peer(
        key="redis",
        name="redis-py, redis-server",
        kind="brokered",
        setup=(
            "Redis without persistence on a Unix socket, redis-py with hiredis, blocking;"
            f" `publish()` in pipelines of {BATCH} commands without a transaction,"
            " `pubsub.listen()`; requests by lists: `RPUSH` and `BLPOP` in one pipeline on both"
            " sides. `client-output-buffer-limit` is off for subscribers, so that none is cut off."
        ),
        start=start,
        receive=receive,
        send=send,
        respond=respond,
        request=request,
        crowd=crowd,
        modules=("redis", "hiredis"),
        program="redis-server",
        topics=True,
    )
]
