"""What only the blocking API has: timeouts of each call, and threads."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import open_channel
from open_channel import ChannelClosed, Limits, MessageTooLarge, WaitTimeout
from open_channel.io.background import background_loop
from open_channel.sync import Channel, ChannelSocket, portal
from open_channel.sync import open_channel as open_blocking
from tests.processes import wait_for
from tests.sync.listeners import echo

Opened = Callable[..., Channel]

SMALL = Limits(window=1024, drain=2048, outbox=1 << 20)
DEADLINE = 20.0


# --- timeouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_read_gives_up_after_its_timeout_and_loses_nothing(opened: Opened, timeout: float):
    socket = opened("read", echo).connect()
    socket.wait_connected()
    before = time.monotonic()
    with pytest.raises(WaitTimeout) as caught:
        socket.read(timeout)
    assert timeout * 0.9 <= time.monotonic() - before < timeout + 2
    assert (caught.value.what, caught.value.timeout) == ("a message", timeout)
    socket.write(b"late")
    assert socket.read(DEADLINE) == b"late"


def test_many_reads_with_tiny_timeouts_lose_nothing(opened: Opened):
    socket = opened("tiny", echo).connect()
    for number in range(500):
        socket.write(b"%d" % number)
    received: list[int] = []
    while len(received) < 500:
        try:
            received.append(int(socket.read(1e-5)))
        except WaitTimeout:
            continue
    assert received == list(range(500))


def test_wait_connected_gives_up_after_its_own_timeout(opened: Opened):
    channel = opened("nobody")
    socket = channel.connect(timeout=None)
    with pytest.raises(WaitTimeout) as caught:
        socket.wait_connected(0.05)
    assert caught.value.what == "a connection"
    assert channel.state == "connecting"


def test_a_timeout_of_zero_is_enough_for_what_need_not_wait(opened: Opened):
    socket = opened("zero", echo).connect()
    socket.wait_connected(DEADLINE)
    socket.wait_connected(0)
    socket.write(b"message", timeout=0)
    socket.drain(0)
    wait_for(lambda: socket._socket._messages, "the answer is here")
    assert socket.read(0) == b"message"


def test_no_timeout_is_too_long(opened: Opened):
    channel = opened("long", echo)
    socket = channel.connect(None)
    socket.wait_connected(math.inf)
    socket.write(b"message", timeout=math.inf)
    assert socket.read(math.inf) == b"message"
    with channel.subscribe("topic") as messages, channel.watch_members() as changes:
        channel.publish("topic", 1, confirm=True, timeout=math.inf)
        assert channel.flush(math.inf) == ()
        assert messages.get(math.inf).data == 1
        with opened("long"):
            assert changes.get(math.inf).kind == "joined"
    with ThreadPoolExecutor() as pool, channel.lock("lock"):
        lock = channel.lock("lock", timeout=math.inf)
        waiting = pool.submit(lock.acquire)
        wait_for(lambda: lock._claim or waiting.done(), "it waits")
    waiting.result(DEADLINE)
    lock.release()
    socket.close(math.inf)
    channel.close(None)


@pytest.mark.parametrize("timeout", [-1, -0.001, -math.inf, math.nan])
def test_a_timeout_below_zero_is_refused(opened: Opened, timeout: float):
    channel = opened("below", echo)
    socket = channel.connect()
    socket.write(b"message")
    with channel.subscribe("topic") as messages, channel.watch_members() as changes:
        calls: list[Callable[[], object]] = [
            lambda: socket.read(timeout),
            lambda: socket.wait_connected(timeout),
            lambda: channel.flush(timeout),
            lambda: messages.get(timeout),
            lambda: changes.get(timeout),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="a number of seconds from 0 on"):
                call()
    assert socket.read(DEADLINE) == b"message"


def test_write_waits_for_room_and_gives_up_after_its_timeout(opened: Opened):
    socket = opened("room", limits=SMALL).connect(timeout=None)
    accepted = 0

    def write_all() -> None:
        nonlocal accepted
        while True:
            socket.write(b"%d " % accepted + bytes(500), timeout=0.05)
            accepted += 1

    with pytest.raises(WaitTimeout) as caught:
        write_all()
    assert caught.value.what == "room in the outbox"
    assert caught.value.timeout == 0.05
    with pytest.raises(WaitTimeout):
        socket.drain(0.01)
    # Nothing of the refused message was queued.
    opened("room", echo).connect()
    socket.write(b"last", timeout=DEADLINE)
    answers = [socket.read(DEADLINE) for _ in range(accepted + 1)]
    assert [answer.split(b" ")[0] for answer in answers] == [
        *(b"%d" % number for number in range(accepted)),
        b"last",
    ]


def test_a_write_that_waits_goes_on_when_the_reader_has_read(opened: Opened):
    go_on = threading.Event()

    def listener(socket: ChannelSocket) -> None:
        go_on.wait(DEADLINE)
        echo(socket)

    socket = opened("released", listener, limits=SMALL).connect()
    written: list[int] = []

    def write() -> None:
        for number in range(50):
            socket.write(b"%d" % number + bytes(500))
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    wait_for(lambda: len(written) >= 4, "the outbox has filled")
    assert len(written) < 10
    go_on.set()
    for number in range(50):
        assert socket.read(DEADLINE).rstrip(b"\0") == b"%d" % number
    writer.join(DEADLINE)
    assert len(written) == 50


@pytest.mark.parametrize("how", ["close", "destroy"])
def test_closing_ends_a_write_that_waits(opened: Opened, how: str):
    socket = opened("nobody", limits=SMALL).connect(timeout=None)
    failures: queue.Queue[Exception] = queue.Queue()

    def write() -> None:
        try:
            while True:
                socket.write(bytes(500))
        except ChannelClosed as error:
            failures.put(error)

    writer = threading.Thread(target=write)
    writer.start()
    if how == "close":
        socket.close(timeout=0.05)
    else:
        socket.destroy()
    assert isinstance(failures.get(timeout=DEADLINE), ChannelClosed)
    writer.join(DEADLINE)


@pytest.mark.parametrize("how", ["close", "destroy", "channel"])
def test_closing_in_another_thread_ends_a_read_that_waits(opened: Opened, how: str):
    channel = opened("waits", echo)
    socket = channel.connect()
    socket.wait_connected()
    with ThreadPoolExecutor(3) as threads:
        reading = [threads.submit(socket.read) for _ in range(3)]
        {"close": socket.close, "destroy": socket.destroy, "channel": channel.close}[how]()
        assert [future.result(DEADLINE) for future in reading] == [b"", b"", b""]


def test_what_the_outbox_could_not_hold_is_not_lost_silently(opened: Opened):
    # The limit at which a writer waits is the same as the one at which the outbox is full.
    limits = Limits(window=4096, drain=1 << 16, outbox=1 << 16)
    socket = opened("brim", echo, limits=limits).connect()
    answers: list[bytes] = []
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: answers.extend(socket.read(DEADLINE) for _ in range(200)))
        for number in range(200):
            socket.write(b"%d " % number + bytes(10_000), DEADLINE)
        reading.result(DEADLINE)
    assert [int(answer.split(b" ")[0]) for answer in answers] == list(range(200))


def test_a_message_too_large_for_the_host_is_told_however_early_it_was_written(opened: Opened):
    def talk() -> None:
        socket = opened("early").connect()
        socket.write(bytes(1001))
        socket.read(5)

    opened("early", echo, limits=Limits(max_message=1000)).connect().wait_connected()
    for _ in range(20):  # before, while and after the host says what it takes
        with pytest.raises(MessageTooLarge):
            talk()


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager_switching")
def test_many_threads_write_each_in_its_order_and_nothing_is_lost_or_doubled(opened: Opened):
    received: list[bytes] = []

    def listener(socket: ChannelSocket) -> None:
        received.extend(socket)

    opened("writers", listener).connect()
    socket = opened("writers", limits=SMALL).connect()

    def write(thread: int) -> None:
        for number in range(500):
            socket.write(b"%d %d" % (thread, number), DEADLINE)

    with ThreadPoolExecutor(8) as threads:
        for future in [threads.submit(write, thread) for thread in range(8)]:
            future.result()
    socket.drain(DEADLINE)  # its count of what is queued has not drifted
    socket.close()
    assert len(received) == 8 * 500
    for thread in range(8):
        own = [message for message in received if message.startswith(b"%d " % thread)]
        assert own == [b"%d %d" % (thread, number) for number in range(500)]


@pytest.mark.usefixtures("eager_switching")
def test_many_threads_read_and_each_message_goes_to_one(opened: Opened):
    def listener(socket: ChannelSocket) -> None:
        for number in range(4000):
            socket.write(b"%d" % number)

    socket = opened("readers", listener).connect()
    with ThreadPoolExecutor(8) as threads:
        parts = [threads.submit(lambda: [int(message) for message in socket]) for _ in range(8)]
        lists = [part.result(DEADLINE) for part in parts]
    assert all(part == sorted(part) for part in lists)
    assert sorted(itertools.chain(*lists)) == list(range(4000))


def test_threads_that_write_and_read_at_once(opened: Opened):
    socket = opened("both", echo).connect()
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: [socket.read(DEADLINE) for _ in range(5000)])
        for number in range(5000):
            socket.write(b"%d" % number)
        assert reading.result(DEADLINE) == [b"%d" % number for number in range(5000)]


def test_each_connection_has_a_listener_thread_of_its_own(opened: Opened):
    threads: queue.Queue[threading.Thread] = queue.Queue()

    def listener(socket: ChannelSocket) -> None:
        threads.put(threading.current_thread())
        echo(socket)

    for _ in range(3):
        opened("threads", listener).connect().wait_connected()
    found = {threads.get(timeout=DEADLINE) for _ in range(3)}
    assert len(found) == 3
    assert threading.main_thread() not in found
    assert all(thread.daemon for thread in found)


def test_a_listener_that_blocks_holds_up_neither_others_nor_the_heartbeat(opened: Opened):
    go_on = threading.Event()

    def listener(socket: ChannelSocket) -> None:
        for message in socket:
            if message == b"block":
                go_on.wait(DEADLINE)
            socket.write(message)

    limits = Limits(heartbeat=0.05, timeout=0.2)
    opened("blocks", listener, limits=limits).connect()
    blocked = opened("blocks", limits=limits)
    blocked_socket = blocked.connect()
    blocked_socket.write(b"block")
    other = opened("blocks", limits=limits)
    other_socket = other.connect()
    deadline = time.monotonic() + 1  # five times what a silent host is given
    while time.monotonic() < deadline:
        other_socket.write(b"on")
        assert other_socket.read(DEADLINE) == b"on"
        assert blocked.connected
        assert other.connected
    go_on.set()
    assert blocked_socket.read(DEADLINE) == b"block"


@pytest.mark.parametrize("error", [LookupError("own"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_listener_raises_ends_its_connection_alone(
    opened: Opened, error: BaseException, caplog: pytest.LogCaptureFixture
):
    def listener(socket: ChannelSocket) -> None:
        for message in socket:
            if message == b"fail":
                raise error
            socket.write(message)

    good = opened("raises", listener).connect()
    bad = opened("raises").connect()
    bad.write(b"fail")
    assert bad.read(DEADLINE) == b""
    good.write(b"on")
    assert good.read(DEADLINE) == b"on"
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_what_a_listener_wrote_from_its_thread_is_read_before_the_end(opened: Opened):
    def listener(socket: ChannelSocket) -> None:
        for number in range(1000):
            socket.write(b"%d" % number)

    for _ in range(10):
        channel = opened("last", listener)
        assert list(channel.connect()) == [b"%d" % number for number in range(1000)]
        channel.close()


def test_a_listener_that_raises_still_delivers_what_it_wrote(opened: Opened):
    def listener(socket: ChannelSocket) -> None:
        socket.write(b"before")
        raise LookupError

    for _ in range(10):
        channel = opened("last", listener)
        assert list(channel.connect()) == [b"before"]
        channel.close()


def test_a_message_is_acknowledged_when_the_listener_comes_back(opened: Opened):
    go_on = threading.Event()
    taken = threading.Event()

    def listener(socket: ChannelSocket) -> None:
        for _ in socket:
            taken.set()
            go_on.wait(DEADLINE)

    socket = opened("ack", listener, limits=Limits(window=1024, drain=0)).connect()
    socket.write(b"in hand")
    assert taken.wait(DEADLINE)
    with pytest.raises(WaitTimeout):
        socket.drain(0.05)
    go_on.set()
    socket.drain(DEADLINE)


# --- beside asyncio -------------------------------------------------------------------------------


async def test_it_serves_a_thread_of_a_program_that_runs_asyncio(opened: Opened):
    async def listener(socket: open_channel.ChannelSocket) -> None:
        async for message in socket:
            socket.write(message)

    channel = open_channel.open_channel("beside", listener)
    async with channel.connect():

        def work() -> list[bytes]:
            with opened("beside").connect() as socket:
                for number in range(100):
                    socket.write(b"%d" % number)
                return [socket.read(DEADLINE) for _ in range(100)]

        answers = await asyncio.gather(*(asyncio.to_thread(work) for _ in range(3)))
    assert answers == [[b"%d" % number for number in range(100)]] * 3


async def test_an_asyncio_client_reaches_a_blocking_host_of_its_own_process(opened: Opened):
    opened("beside", echo).connect().wait_connected()
    async with open_channel.open_channel("beside").connect() as socket:
        socket.write(b"hello")
        assert await socket.read() == b"hello"


def test_a_blocking_host_serves_while_the_programs_event_loop_is_blocked(opened: Opened):
    async def program() -> bytes:
        opened("blocked", echo).connect()
        socket = opened("blocked").connect()
        socket.write(b"hello")
        return socket.read(DEADLINE)  # blocks this event loop, and no other

    assert asyncio.run(program()) == b"hello"


# --- what is known --------------------------------------------------------------------------------


def test_a_socket_has_the_properties_of_the_asyncio_one():
    def properties(kind: type) -> set[str]:
        return {name for name, value in inspect.getmembers(kind) if isinstance(value, property)}

    assert properties(ChannelSocket) == properties(open_channel.ChannelSocket)


def test_what_a_socket_knows_of_itself(opened: Opened):
    go_on = threading.Event()

    def listener(socket: ChannelSocket) -> None:
        go_on.wait(DEADLINE)
        assert not socket.closed
        assert (socket.name, socket.max_message) == ("knows", SMALL.max_message)
        echo(socket)

    socket = opened("knows", listener, limits=SMALL).connect()
    assert (socket.name, socket.closed, socket.backlog) == ("knows", False, 0)
    assert (socket.max_message, socket.drain_limit) == (SMALL.max_message, SMALL.drain)
    for count in range(1, 4):
        socket.write(bytes(500))
        # In the queue, in the outbox, or on its way: it counts until it is acknowledged.
        assert 500 * count <= socket.backlog < 550 * count
    go_on.set()
    for _ in range(3):
        assert socket.read(DEADLINE) == bytes(500)
    wait_for(lambda: socket.backlog == 0, "all is acknowledged")
    socket.close()
    assert socket.closed
    assert socket.name == "knows"


# --- first use by several threads ----------------------------------------------------------------


def test_threads_that_connect_first_at_once_share_one_socket(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
):
    count = 20
    together = threading.Barrier(count)
    connect = Channel._connect

    def connect_together(channel: Channel) -> object:
        connected = connect(channel)
        together.wait(DEADLINE)  # now each of them is about to make its blocking socket
        return connected

    monkeypatch.setattr(Channel, "_connect", connect_together)
    channel = opened("first", echo)

    def use(number: int) -> tuple[ChannelSocket, bytes]:
        socket = channel.connect()
        socket.write(b"%d" % number)
        return socket, socket.read(DEADLINE)

    with ThreadPoolExecutor(count) as pool:
        used = list(pool.map(use, range(count)))
    assert {socket for socket, _ in used} == {channel.connect()}
    assert sorted(int(answer) for _, answer in used) == list(range(count))


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["close", "destroy"])
def test_a_channel_that_is_closed_through_its_socket_is_not_kept(channel_dir: Path, end: str):
    channel = open_blocking("kept", echo)
    socket = channel.connect()
    socket.wait_connected()
    getattr(socket, end)()
    gone = weakref.ref(channel)
    del channel, socket
    wait_for(lambda: gc.collect() is not None and gone() is None, "nobody knows the channel")


# --- KeyboardInterrupt ----------------------------------------------------------------------------


class Interrupted:
    """An event loop in whose next ``call_soon_threadsafe()`` Ctrl-C is pressed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, called: bool) -> None:
        self._loop = loop
        self._called = called  # whether that happens when the call is made already
        self.pressed = False

    def call_soon_threadsafe(self, callback: Callable[[], object]) -> None:
        if self.pressed or self._called:
            self._loop.call_soon_threadsafe(callback)
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("method", ["write", "read"])
def test_what_is_written_after_a_keyboard_interrupt_arrives(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, method: str, called: bool
):
    socket = opened("interrupted", echo).connect()
    socket.write(b"before")
    assert socket.read(DEADLINE) == b"before"
    wait_for(lambda: not socket._errand.told, "the loop has heard of it")
    loop = Interrupted(background_loop(), called=called)
    monkeypatch.setattr(socket._errand, "_loop", loop)
    with pytest.raises(KeyboardInterrupt):
        socket.write(b"interrupted") if method == "write" else socket.read(DEADLINE)
    assert loop.pressed
    socket.write(b"after")
    if method == "write":  # it was left for the loop when the interrupt came
        assert socket.read(DEADLINE) == b"interrupted"
    assert socket.read(DEADLINE) == b"after"


@pytest.mark.parametrize("called", [False, True])
def test_what_is_published_after_a_keyboard_interrupt_arrives(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, called: bool
):
    with opened("interrupted") as channel, channel.subscribe("topic") as messages:
        bus = channel._bus
        assert bus is not None
        wait_for(lambda: not bus._errand.told, "the loop has heard of all")
        loop = Interrupted(background_loop(), called=called)
        monkeypatch.setattr(bus._errand, "_loop", loop)
        with pytest.raises(KeyboardInterrupt):
            channel.publish("topic", "interrupted")
        assert loop.pressed
        channel.publish("topic", "after")
        # It was left for the loop when the interrupt came, and is published with the next.
        assert [messages.get(DEADLINE).data for _ in range(2)] == ["interrupted", "after"]


# --- answers and acknowledgements -----------------------------------------------------------------


def test_no_message_is_acknowledged_before_its_answer_is_in_the_outbox(opened: Opened):
    """The loop may write at any moment: also when the answer is with the thread still."""
    sockets: queue.Queue[ChannelSocket] = queue.Queue()
    answer, back = threading.Event(), threading.Event()

    def listener(socket: ChannelSocket) -> None:
        sockets.put(socket)
        assert socket.read() == b"one"
        answer.wait(DEADLINE)
        socket.write(b"answer")
        assert socket.read() == b"two"  # so the first one is done
        back.set()
        socket.read()

    client = opened("answers", listener).connect()
    client.write(b"one")
    client.write(b"two")
    socket = sockets.get(timeout=DEADLINE)
    io = socket._socket._io
    wait_for(lambda: io.session.inbox.received == 2, "both are there")

    async def flush_in_between() -> int:
        answer.set()
        back.wait(DEADLINE)  # the loop is held: what the thread left for it is not moved yet
        io.flush()
        return io.session.inbox.acked

    loop = background_loop()
    assert asyncio.run_coroutine_threadsafe(flush_in_between(), loop).result(DEADLINE) == 0
    assert client.read(DEADLINE) == b"answer"
    wait_for(lambda: io.session.inbox.acked == 2, "both are acknowledged")


class _Failed(Exception):
    pass


def test_an_error_that_is_forgotten_is_gone_without_the_collector():
    async def fail() -> None:
        raise _Failed

    def forget() -> weakref.ref[_Failed]:
        try:
            portal.run(fail, None, "")
        except _Failed as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        forgotten = forget()
        wait_for(lambda: forgotten() is None, "it is gone")
    finally:
        gc.enable()
