"""What both ends of a stream share: numbered bodies, the start, and the check of what arrives.

A stream begins the same way for every peer. The sender sends *probes* until each receiver has said
that it gets them, then one *mark*; after the mark, and a word from the parent, the clock starts. So
every path is open and warm, and no peer loses its first messages to a subscription that is not yet
live.

Bodies carry numbers. A receiver compares each one with the one that must come next, so that a loss,
a double or a wrong order ends the measurement with an error instead of a figure. A large body is
checked at its begin, its end, and once in each page, so that every page of it is really there.
"""

from __future__ import annotations

import asyncio
import select
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from typing import Any, TypeAlias

from harness import BenchmarkError, commands, say

SMALL = 4096
"""Bodies up to this size are compared whole."""
PAGE = 4096
PROBE = b"probe"
MARK = b"mark!"
PROBE_EACH = 0.005  # seconds

Body: TypeAlias = Any
"""bytes, or what a peer gives in their place: a bytearray, a memoryview."""


@cache
def ring(size: int) -> list[bytes]:
    """The bodies that travel, again and again in this order; all different."""
    filler = (bytes(range(256)) * (size // 256 + 1))[: size - 8]
    return [number.to_bytes(8, "big") + filler for number in range(4096 if size <= SMALL else 8)]


def bodies(size: int, count: int) -> Iterator[bytes]:
    return islice(cycle(ring(size)), count)


def intact(body: Body, expected: bytes) -> bool:
    if len(expected) <= SMALL:
        return bool(body == expected)
    view = memoryview(body)
    return (
        len(view) == len(expected)
        and view[:16] == expected[:16]
        and view[-16:] == expected[-16:]
        and view[::PAGE].tobytes() == expected[::PAGE]
    )


def wrong(body: Body, expected: bytes) -> BenchmarkError:
    came, due = (int.from_bytes(bytes(memoryview(b)[:8]), "big") for b in (body, expected))
    return BenchmarkError(f"message {came} of {len(body)} bytes came where {due} was due")


# --- the sender -------------------------------------------------------------------------------


def give(
    send: Callable[[Body], object],
    count: int,
    size: int,
    flush: Callable[[], object] | None = None,
    stream: Callable[[Iterable[bytes]], object] | None = None,
) -> None:
    """Send a stream, blocking. ``stream`` sends many bodies, if that is not ``send`` for each."""
    say(connected=True)
    while not select.select([sys.stdin], [], [], PROBE_EACH)[0]:
        send(PROBE)
        if flush is not None:
            flush()
    sys.stdin.readline()
    send(MARK)
    if flush is not None:
        flush()
    sys.stdin.readline()
    begun = time.monotonic_ns()
    if stream is not None:
        stream(bodies(size, count))
    else:
        for body in bodies(size, count):
            send(body)
    if flush is not None:
        flush()
    say(begun=begun, sent=count)
    sys.stdin.read()


async def give_async(
    sends: Sequence[Callable[[Body], Awaitable[object]]],
    count: int,
    size: int,
    flush: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Send a stream in an event loop: the messages go round the ``sends``, one for each topic."""
    say(connected=True)
    orders = commands()
    first = sends[0]
    go = asyncio.ensure_future(anext(orders))
    while not (await asyncio.wait({go}, timeout=PROBE_EACH))[0]:
        await first(PROBE)
    await first(MARK)
    if flush is not None:
        await flush()
    await anext(orders)
    begun = time.monotonic_ns()
    if len(sends) == 1:
        for body in bodies(size, count):
            await first(body)
    else:
        for body, send in zip(bodies(size, count), cycle(sends), strict=False):
            await send(body)
    if flush is not None:
        await flush()
    say(begun=begun, sent=count)
    async for _ in orders:
        pass


def to_all(sends: Sequence[Callable[[Body], object]]) -> Callable[[Body], object]:
    """One function that sends to all of several connections."""
    if len(sends) == 1:
        return sends[0]

    def send(body: Body) -> None:
        for each in sends:
            each(body)

    return send


def to_topics(sends: Sequence[Callable[[Body], object]]) -> Callable[[Iterable[bytes]], None]:
    """One function that sends many bodies, each to the next of several topics."""

    def stream(many: Iterable[bytes]) -> None:
        for body, send in zip(many, cycle(sends), strict=False):
            send(body)

    return stream


# --- the receiver -----------------------------------------------------------------------------


def take(receive: Callable[[], Body], count: int, size: int) -> None:
    """Receive a stream, blocking; ``receive()`` returns the next body."""
    body = receive()
    say(live=True)
    while body != MARK:
        body = receive()
    say(ready=True)
    if size <= SMALL:
        for expected in bodies(size, count):
            body = receive()
            if body != expected:
                raise wrong(body, expected)
    else:
        for expected in bodies(size, count):
            body = receive()
            if not intact(body, expected):
                raise wrong(body, expected)
    say(at=time.monotonic_ns(), received=count)
    sys.stdin.read()


async def take_async(receive: Callable[[], Awaitable[Body]], count: int, size: int) -> None:
    """Receive a stream in an event loop, one ``await receive()`` for each message."""
    body = await receive()
    say(live=True)
    while body != MARK:
        body = await receive()
    say(ready=True)
    if size <= SMALL:
        for expected in bodies(size, count):
            body = await receive()
            if body != expected:
                raise wrong(body, expected)
    else:
        for expected in bodies(size, count):
            body = await receive()
            if not intact(body, expected):
                raise wrong(body, expected)
    say(at=time.monotonic_ns(), received=count)


class Tally:
    """Counts and checks what a callback gets; says when the last message has come."""

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._left = count
        self._live = self._marked = False
        self._expected = bodies(size, count)
        self._error: BenchmarkError | None = None
        self._some: list[Body] = []

    def take(self, body: Body) -> None:
        """One message, from any one thread."""
        if self._marked:
            expected = next(self._expected, b"")
            if not intact(body, expected):
                raise self.fail(wrong(body, expected or b"\xff" * 8))
            self._left -= 1
            if not self._left:
                self.end()
        else:
            self.begin(body)

    def begin(self, body: Body) -> bool:
        """What comes before the first message that counts. Whether it was the mark."""
        if not self._live:
            self._live = True
            say(live=True)
        if body == MARK:
            self._marked = True
            say(ready=True)
        return self._marked

    def extend(self, some: Sequence[Body]) -> bool:
        """Some messages that came together. Whether the last one is among them."""
        if len(some) == 1 or self._size > SMALL:
            for body in some:
                self.take(body)
            return not self._left
        expected = list(islice(self._expected, len(some)))
        if some != expected and list(some) != expected:
            raise self.fail(
                next(wrong(b, e) for b, e in zip(some, expected, strict=True) if b != e)
            )
        self._left -= len(some)
        if not self._left:
            self.end()
        return not self._left

    @property
    def expected(self) -> Callable[[], bytes]:
        """Returns the next body that is due, for loops that compare on their own."""
        return self._expected.__next__

    def end(self) -> None:
        say(at=time.monotonic_ns(), received=self._count)

    def fail(self, error: BenchmarkError) -> BenchmarkError:
        """A callback's own exception may be swallowed by the peer's library: say it, too."""
        say(error=str(error))
        return error


# --- requests ---------------------------------------------------------------------------------


def ask(open_client: Callable[[], Any], count: int, size: int, fresh: bool) -> None:
    """Requests one at a time, blocking; ``open_client()`` is a context with the asking function.

    Tells how long each took; with ``fresh``, each by a client of its own, from before that was made
    until the answer is there.
    """
    times: list[float] = []
    if fresh:
        for body in bodies(size, count):
            begun = time.perf_counter()
            with open_client() as send:
                _same(send(body), body)
                times.append(time.perf_counter() - begun)
    else:
        with open_client() as send:
            for _ in range(20):
                _same(send(PROBE), PROBE)
            for body in bodies(size, count):
                begun = time.perf_counter()
                answer = send(body)
                times.append(time.perf_counter() - begun)
                _same(answer, body)
    say(times=times)


async def ask_async(open_client: Callable[[], Any], count: int, size: int, fresh: bool) -> None:
    """The same in an event loop; ``open_client()`` is an asynchronous context."""
    times: list[float] = []
    if fresh:
        for body in bodies(size, count):
            begun = time.perf_counter()
            async with open_client() as send:
                _same(await send(body), body)
                times.append(time.perf_counter() - begun)
    else:
        async with open_client() as send:
            for _ in range(20):
                _same(await send(PROBE), PROBE)
            for body in bodies(size, count):
                begun = time.perf_counter()
                answer = await send(body)
                times.append(time.perf_counter() - begun)
                _same(answer, body)
    say(times=times)


def _same(answer: Body, body: bytes) -> None:
    if answer != body:
        raise BenchmarkError(f"{bytes(body[:8])!r} was answered by {bytes(answer[:8])!r}")
