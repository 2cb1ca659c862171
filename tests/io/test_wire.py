"""One connection on an event loop, on asyncio's and on uvloop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from open_channel.errors import RemoteProtocolError
from open_channel.io.wire import Wire
from open_channel.protocol.frames import HEADER, Frame, Kind, encode
from open_channel.protocol.limits import Limits

Run = Callable[[Coroutine[Any, Any, None]], None]
DEADLINE = 10.0


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        factory = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
        with asyncio.Runner(loop_factory=factory[request.param]) as runner:
            runner.run(coroutine)

    return run


class Owner:
    """Keeps what a wire tells it."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.lost: list[str] = []
        self.room = 0
        self.error: Exception | None = None
        self.changed = asyncio.Event()

    def frames_received(self, frames: list[Frame]) -> None:
        if self.error is not None:
            raise self.error
        self.frames += [(frame.kind, bytes(frame.payload)) for frame in frames]
        self.changed.set()

    def writable(self) -> None:
        self.room += 1
        self.changed.set()

    def wire_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def connected() -> tuple[Wire, Owner, socket.socket]:
    """A wire, its owner, and the blocking socket at the other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    owner = Owner()
    wire = Wire(ours, owner, "chat: connection")
    wire.decoder.limit = Limits().max_payload
    await wire.start()
    return wire, owner, theirs


def message(number: int, size: int = 10) -> bytes:
    return encode(Kind.MESSAGES, 1, 0, b"%0*d" % (size, number))


def test_frames_both_ways(run: Run) -> None:
    async def main() -> None:
        wire, owner, theirs = await connected()
        theirs.sendall(message(1) + message(2)[:25])
        await owner.until(lambda: owner.frames)
        theirs.sendall(message(2)[25:])
        await owner.until(lambda: len(owner.frames) == 2)
        assert [int(payload) for _, payload in owner.frames] == [1, 2]
        assert wire.reads == 2
        wire.write([encode(Kind.PING)])
        wire.write([b"ab", b"cd"])
        wire.write([b"e", b"f", b"g"])
        assert wire.writes == 3
        await asyncio.sleep(0)  # uvloop writes at the end of the turn
        await asyncio.sleep(0)
        assert theirs.recv(27, socket.MSG_WAITALL) == encode(Kind.PING) + b"abcdefg"
        wire.close()
        await owner.until(lambda: owner.lost)
        theirs.close()

    run(main())


@pytest.mark.parametrize("unread", [False, True], ids=["eof", "reset"])
@pytest.mark.parametrize("count", [1, 200])
def test_a_dead_peers_last_words_are_read_when_a_write_fails(
    run: Run, unread: bool, count: int
) -> None:
    """Asyncio throws unread input away then; with unread input at its side, the peer resets."""

    async def main() -> None:
        wire, owner, theirs = await connected()
        if unread:
            wire.write([message(0)])
            await asyncio.sleep(0)  # uvloop writes at the end of the turn
            await asyncio.sleep(0)
        theirs.sendall(b"".join(message(number, 1000) for number in range(1, count + 1)))
        theirs.close()
        wire.write([message(0)])  # in the same turn: EPIPE, before anything was read
        await owner.until(lambda: owner.lost)
        assert [int(payload) for _, payload in owner.frames] == list(range(1, count + 1))
        assert len(owner.lost) == 1
        wire.write([message(0)])  # nothing happens

    run(main())


def test_the_end(run: Run) -> None:
    async def main() -> None:
        _, owner, theirs = await connected()
        theirs.sendall(message(1))
        theirs.close()
        await owner.until(lambda: owner.lost)
        assert [int(payload) for _, payload in owner.frames] == [1]
        assert owner.lost == ["the other side closed"]

    run(main())


def test_half_a_frame_and_the_end(run: Run) -> None:
    async def main() -> None:
        _, owner, theirs = await connected()
        theirs.sendall(message(1)[:-1])
        theirs.close()
        await owner.until(lambda: owner.lost)
        assert owner.frames == []

    run(main())


def test_broken_rules_end_it_with_one_log_record(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        wire, owner, theirs = await connected()
        owner.error = RemoteProtocolError(reason="not at this point")
        theirs.sendall(message(1) * 3)
        await owner.until(lambda: owner.lost)
        assert owner.lost == ["not at this point"]
        assert theirs.recv(100) == b""
        wire.abort("again")
        theirs.close()

    with caplog.at_level(logging.WARNING, "open_channel"):
        run(main())
    assert [r.getMessage() for r in caplog.records] == ["chat: connection ended: not at this point"]


def test_a_length_over_the_cap_allocates_nothing(run: Run) -> None:
    async def main() -> None:
        wire, owner, theirs = await connected()
        theirs.sendall(HEADER.pack(2**32 - 1, Kind.MESSAGES, 0, 1, 0) + bytes(1000))
        await owner.until(lambda: owner.lost)
        assert str(2**32 - 1) in owner.lost[0]
        assert len(wire.decoder._view) < 1 << 20
        theirs.close()

    run(main())


def test_writing_pauses_while_nobody_reads(run: Run) -> None:
    async def main() -> None:
        wire, owner, theirs = await connected()
        parts = [bytes(60_000) for _ in range(5)]  # more than is worth joining
        written = 0
        while not wire.paused:
            wire.write(parts)
            written += 300_000
            await asyncio.sleep(0)
        assert written < 4 << 20
        loop = asyncio.get_running_loop()
        theirs.setblocking(False)
        read = 0
        while read < written:
            read += len(await asyncio.wait_for(loop.sock_recv(theirs, 1 << 20), DEADLINE))
        await owner.until(lambda: owner.room)
        assert not wire.paused
        wire.close()
        await owner.until(lambda: owner.lost)
        theirs.close()

    run(main())


def test_close_writes_what_is_buffered(run: Run) -> None:
    async def main() -> None:
        wire, owner, theirs = await connected()
        wire.write([bytes(3 << 20)])
        wire.close()
        loop = asyncio.get_running_loop()
        theirs.setblocking(False)
        read = 0
        while part := await asyncio.wait_for(loop.sock_recv(theirs, 1 << 20), DEADLINE):
            read += len(part)
        assert read == 3 << 20
        await owner.until(lambda: owner.lost)
        theirs.close()

    run(main())


@pytest.mark.parametrize("how", ["abort", "close"])
def test_ended_before_it_has_begun(run: Run, how: str) -> None:
    """A host that hands over while a connection is being accepted: the other side must not wait."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(DEADLINE)
        owner = Owner()
        wire = Wire(ours, owner, "chat: connection")
        starting = asyncio.create_task(wire.start())
        if how == "abort":
            wire.abort("no longer the host")
        else:
            wire.close()
        await starting
        await owner.until(lambda: owner.lost)
        assert theirs.recv(1) == b""
        theirs.close()

    run(main())
