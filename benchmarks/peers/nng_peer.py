"""pynng: a pair directly, and a publisher with subscribers directly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness import say

from peers.ledger import MARK, PROBE, SMALL, ask, give, take, to_all
from peers.peer import Peer, nothing_between

LIMIT = 64 << 20
"""Bytes: pynng refuses larger messages unless told otherwise."""
WINDOW = 2048
"""Messages between two receipts: nng drops what a slow subscriber has no room for."""


def pair_receive(address: str, index: int, count: int, size: int) -> None:
    import pynng

    with pynng.Pair0(listen=f"ipc://{address}-{index}", recv_max_size=LIMIT) as pair:
        pair.recv_buffer_size = 8192 if size <= SMALL else 4
        say(listening=True)
        take(pair.recv, count, size)


def pair_send(address: str, receivers: int, count: int, size: int) -> None:
    import pynng

    pairs = [pynng.Pair0(recv_max_size=LIMIT) for _ in range(receivers)]
    for index, pair in enumerate(pairs):
        pair.send_buffer_size = 8192 if size <= SMALL else 4
        pair.dial(f"ipc://{address}-{index}", block=True)
    give(to_all([pair.send for pair in pairs]), count, size)


def pub_receive(address: str, index: int, count: int, size: int) -> None:
    import pynng

    window = WINDOW if size <= SMALL else 4
    with (
        pynng.Sub0(topics=b"", recv_max_size=LIMIT) as sub,
        pynng.Push0() as receipts,
    ):
        sub.recv_buffer_size = 8192
        sub.dial(f"ipc://{address}", block=False)
        receipts.dial(f"ipc://{address}-receipts", block=False)
        say(listening=True)
        numbers = itertools.count(1)

        def receive() -> Any:
            body = sub.recv()
            if body not in {PROBE, MARK} and not next(numbers) % window:
                receipts.send(b".")  # pynng cannot receive an empty one
            return body

        take(receive, count, size)


def pub_send(address: str, receivers: int, count: int, size: int) -> None:
    import pynng

    window = WINDOW if size <= SMALL else 4
    with (
        pynng.Pub0(listen=f"ipc://{address}") as pub,
        pynng.Pull0(listen=f"ipc://{address}-receipts") as receipts,
    ):
        pub.send_buffer_size = 8192
        numbers = itertools.count(1)

        def stream(many: Any) -> None:
            for body in many:
                pub.send(body)
                number = next(numbers)
                # Two windows may be under way.
                if not number % window and number > window:
                    for _ in range(receivers):
                        receipts.recv()

        give(pub.send, count, size, stream=stream)


def respond(address: str) -> None:
    import pynng

    with pynng.Rep0(listen=f"ipc://{address}") as end:
        say(listening=True)
        while True:
            end.send(end.recv())


def request(address: str, count: int, size: int, fresh: bool) -> None:
    import pynng

    @contextmanager
    def client() -> Iterator[Callable[[bytes], bytes]]:
        with pynng.Req0(recv_timeout=5000) as end:
            end.dial(f"ipc://{address}", block=True)

            def send(body: bytes) -> bytes:
                end.send(body)
                return bytes(end.recv())

            yield send

    ask(client, count, size, fresh)


PEERS = [
    Peer(
        key="nng-pair",
        name="pynng Pair0, direct",
        kind="direct",
        setup=(
            "`Pair0` over `ipc://`, directly connected, send and receive buffers of 8,192 messages"
            " (4 for large bodies); requests: `Req0` to `Rep0` directly."
        ),
        start=nothing_between,
        receive=pair_receive,
        send=pair_send,
        respond=respond,
        request=request,
        modules=("pynng",),
    ),
    Peer(
        key="nng-pub",
        name="pynng Pub0, direct",
        kind="direct",
        setup=(
            "`Pub0` and `Sub0` over `ipc://`, directly connected, buffers of 8,192 messages. nng"
            " drops what finds no room, so subscribers push a receipt for each 2,048 messages (4"
            " large ones), and the publisher waits for them, two windows ahead."
        ),
        start=nothing_between,
        receive=pub_receive,
        send=pub_send,
        modules=("pynng",),
    ),
]
