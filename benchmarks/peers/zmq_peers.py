"""pyzmq: a PAIR directly, and publishers and subscribers through a proxy in a third process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import Crew, say, until_dismissed

from peers.ledger import (
    SMALL,
    ask,
    ask_async,
    give,
    give_async,
    take,
    take_async,
    to_all,
    to_topics,
)
from peers.peer import Peer, Place, nothing_between

# What the proxy's four sockets are called, after the address.
PUBLISHERS, SUBSCRIBERS, REQUESTERS, RESPONDERS = "-pub", "-sub", "-req", "-rep"
TOPIC = b"orders.eu"


@contextmanager
def opened(kind: int) -> Iterator[Any]:
    """A socket that drops nothing: no high-water mark."""
    import zmq

    with zmq.Context() as context, context.socket(kind) as end:
        end.setsockopt(zmq.LINGER, 0)
        end.setsockopt(zmq.SNDHWM, 0)
        end.setsockopt(zmq.RCVHWM, 0)
        yield end


def sending(end: Any, size: int) -> Callable[[Any], Any]:
    """``send()`` as it is fastest: large bodies are not copied."""
    return end.send if size <= SMALL else lambda body: end.send(body, copy=False)


def receiving(end: Any, size: int) -> Callable[[], Any]:
    return end.recv if size <= SMALL else lambda: end.recv(copy=False).buffer


# --- PAIR, directly -----------------------------------------------------------------------------


def pair_receive(address: str, index: int, count: int, size: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as pair:
        pair.bind(f"ipc://{address}-{index}")
        say(listening=True)
        take(receiving(pair, size), count, size)


def pair_send(address: str, receivers: int, count: int, size: int) -> None:
    import zmq

    with zmq.Context() as context:
        pairs = [context.socket(zmq.PAIR) for _ in range(receivers)]
        for index, pair in enumerate(pairs):
            pair.connect(f"ipc://{address}-{index}")
        give(to_all([sending(pair, size) for pair in pairs]), count, size)
        context.destroy(linger=0)


def pair_respond(address: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as end:
        end.bind(f"ipc://{address}")
        say(listening=True)
        while True:
            end.send(end.recv())


def pair_request(address: str, count: int, size: int, fresh: bool) -> None:
    ask(lambda: requesting(f"ipc://{address}"), count, size, fresh)


@contextmanager
def requesting(endpoint: str) -> Iterator[Callable[[bytes], bytes]]:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REQ) as end:
        end.setsockopt(zmq.LINGER, 0)
        end.connect(endpoint)

        def send(body: bytes) -> bytes:
            end.send(body)
            return bytes(end.recv())

        yield send


# --- through a proxy ----------------------------------------------------------------------------


def proxy(address: str) -> None:
    """XSUB to XPUB, and ROUTER to DEALER, each by ``zmq.proxy()`` in a thread of its own."""
    import threading

    import zmq

    context = zmq.Context()

    def forward(front: int, front_name: str, back: int, back_name: str) -> None:
        ends = context.socket(front), context.socket(back)
        for end, name in zip(ends, (front_name, back_name), strict=True):
            end.setsockopt(zmq.SNDHWM, 0)
            end.setsockopt(zmq.RCVHWM, 0)
            end.bind(f"ipc://{address}{name}")
        bound.release()
        zmq.proxy(*ends)

    bound = threading.Semaphore(0)
    requests = (zmq.ROUTER, REQUESTERS, zmq.DEALER, RESPONDERS)
    threading.Thread(target=forward, args=requests, daemon=True).start()
    bound.acquire()
    threading.Thread(
        target=forward, args=(zmq.XSUB, PUBLISHERS, zmq.XPUB, SUBSCRIBERS), daemon=True
    ).start()
    bound.acquire()
    say(ready=True)
    threading.Event().wait()


def start_proxy(crew: Crew, _loop: str) -> Place:
    address = str(crew.directory / "proxy")
    process = crew.spawn(proxy, address=address)
    process.hear()
    return Place(address, process.pid)


def sub_receive(address: str, index: int, count: int, size: int, topics: int = 1) -> None:
    import zmq

    with opened(zmq.SUB) as sub:
        sub.setsockopt(zmq.SUBSCRIBE, TOPIC)
        sub.connect(f"ipc://{address}{SUBSCRIBERS}")
        say(listening=True)
        receive = sub.recv_multipart
        if size <= SMALL:
            take(lambda: receive()[1], count, size)
        else:
            take(lambda: receive(copy=False)[1].buffer, count, size)


def pub_send(address: str, receivers: int, count: int, size: int, topics: int = 1) -> None:
    import zmq

    with opened(zmq.PUB) as pub:
        pub.connect(f"ipc://{address}{PUBLISHERS}")
        multipart, copy = pub.send_multipart, size <= SMALL

        def sender(topic: bytes) -> Callable[[Any], None]:
            return lambda body: multipart((topic, body), copy=copy)

        stream = to_topics([sender(b"%s.%d" % (TOPIC, n)) for n in range(topics)])
        give(sender(TOPIC), count, size, stream=stream if topics > 1 else None)


def proxy_respond(address: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.REP) as end:
        end.connect(f"ipc://{address}{RESPONDERS}")
        say(listening=True)
        while True:
            end.send(end.recv())


def proxy_request(address: str, count: int, size: int, fresh: bool) -> None:
    ask(lambda: requesting(f"ipc://{address}{REQUESTERS}"), count, size, fresh)


def crowd(address: str, members: int, subscriptions: int) -> None:
    import zmq

    with zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 4096)
        held = []  # one that is collected is closed
        for member in range(members):
            sub = context.socket(zmq.SUB)
            sub.setsockopt(zmq.SNDHWM, 0)  # subscriptions past it would be dropped
            sub.connect(f"ipc://{address}{SUBSCRIBERS}")
            for number in range(subscriptions):
                sub.setsockopt(zmq.SUBSCRIBE, b"idle.%d.%d." % (member, number))
            sub.setsockopt(zmq.SUBSCRIBE, b"end.%d" % member)
            held.append(sub)
        await_subscriptions(address, members)
        say(listening=True)
        sys.stdin.read()
        context.destroy(linger=0)


def await_subscriptions(address: str, members: int) -> None:
    """Until the proxy has passed on the last subscription of each member to a publisher."""
    import zmq

    with opened(zmq.XPUB) as pub:
        pub.connect(f"ipc://{address}{PUBLISHERS}")
        missing = {b"\x01end.%d" % member for member in range(members)}
        while missing:
            missing.discard(pub.recv())


# --- zmq.asyncio --------------------------------------------------------------------------------


async def async_pair_receive(address: str, index: int, count: int, size: int) -> None:
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.PAIR) as pair:
        pair.bind(f"ipc://{address}-{index}")
        say(listening=True)
        if size <= SMALL:
            await take_async(pair.recv, count, size)
        else:

            async def receive() -> Any:
                return (await pair.recv(copy=False)).buffer

            await take_async(receive, count, size)
        await until_dismissed()


async def async_pair_send(address: str, receivers: int, count: int, size: int) -> None:
    import zmq.asyncio

    context = zmq.asyncio.Context()
    pairs = [context.socket(zmq.PAIR) for _ in range(receivers)]
    for index, pair in enumerate(pairs):
        pair.connect(f"ipc://{address}-{index}")
    if receivers == 1:
        await give_async([sending(pairs[0], size)], count, size)
        return
    sends = [sending(pair, size) for pair in pairs]

    async def send(body: Any) -> None:
        for each in sends:
            await each(body)

    await give_async([send], count, size)


async def async_respond(address: str) -> None:
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.REP) as end:
        end.connect(f"ipc://{address}{RESPONDERS}")
        say(listening=True)
        while True:
            await end.send(await end.recv())


async def async_request(address: str, count: int, size: int, fresh: bool) -> None:
    import zmq.asyncio

    class Client:
        async def __aenter__(self) -> Callable[[bytes], Any]:
            self.context = zmq.asyncio.Context()
            end = self.end = self.context.socket(zmq.REQ)
            end.connect(f"ipc://{address}{REQUESTERS}")

            async def send(body: bytes) -> bytes:
                await end.send(body)
                return bytes(await end.recv())

            return send

        async def __aexit__(self, *_: object) -> None:
            self.context.destroy(linger=0)

    await ask_async(Client, count, size, fresh)


PAIR = "`zmq.PAIR` over `ipc://`, directly connected, default high-water marks, no guarantees"
PROXY = (
    "over `ipc://` through `zmq.proxy()` in a third process (XSUB to XPUB; for requests ROUTER to"
    " DEALER), high-water marks off so that nothing is dropped"
)
PEERS = [
    Peer(
        key="zmq-pair",
        name="pyzmq PAIR, direct",
        kind="direct",
        setup=f"{PAIR}; blocking `send()` and `recv()`, large bodies with `copy=False`;"
        " requests: REQ to REP directly.",
        start=nothing_between,
        receive=pair_receive,
        send=pair_send,
        respond=pair_respond,
        request=pair_request,
        modules=("zmq",),
    ),
    Peer(
        key="zmq-proxy",
        name="pyzmq through a proxy",
        kind="brokered",
        setup=f"PUB and SUB {PROXY}; blocking `send_multipart()` and `recv_multipart()`, large"
        " bodies with `copy=False`; requests: REQ and REP.",
        start=start_proxy,
        receive=sub_receive,
        send=pub_send,
        respond=proxy_respond,
        request=proxy_request,
        crowd=crowd,
        modules=("zmq",),
        topics=True,
    ),
    Peer(
        key="zmq-asyncio-pair",
        name="zmq.asyncio PAIR, direct",
        kind="direct",
        setup=f"{PAIR}; `zmq.asyncio` under uvloop, large bodies with `copy=False`.",
        start=nothing_between,
        receive=async_pair_receive,
        send=async_pair_send,
        modules=("zmq", "uvloop"),
        loop="uvloop",
    ),
    Peer(
        key="zmq-asyncio-proxy",
        name="zmq.asyncio through a proxy",
        kind="brokered",
        setup=f"REQ and REP of `zmq.asyncio` under uvloop, {PROXY}.",
        start=start_proxy,
        respond=async_respond,
        request=async_request,
        modules=("zmq", "uvloop"),
        loop="uvloop",
    ),
]
