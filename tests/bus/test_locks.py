"""Locks and leadership: one holder among all processes, its death frees, a waiter is woken."""

from __future__ import annotations

import _thread
import asyncio
import errno
import gc
import json
import logging
import os
import shutil
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest
import uvloop

from open_channel.bus.locks import Lock, lead
from open_channel.errors import ChannelError, NameCollision, NameInvalid, WaitTimeout
from open_channel.io import directory
from open_channel.io.directory import ChannelFiles, secure
from open_channel.io.lockfile import LockFile, WaitedLockFile, is_locked
from open_channel.io.locks import _LEFT, _locks, _serve
from open_channel.sync import locks as blocking
from tests.processes import Process, Processes, wait_for

PROLOGUE = """
import asyncio, json, os, sys, threading, time
from open_channel.bus import locks as bus
from open_channel.io.directory import ChannelFiles
from open_channel.sync import locks as sync
files = ChannelFiles.of(os.environ["OPEN_CHANNEL_DIR"], "shop")
def say(**facts):
    print(json.dumps(facts), flush=True)
"""

HOLD = """
with sync.Lock(files, "x"):
    say(held=True)
    sys.stdin.readline()
say(released=True)
sys.stdin.readline()
"""


@pytest.fixture
def files(channel_dir: Path) -> ChannelFiles:
    return ChannelFiles.of(str(channel_dir), "shop")


@pytest.fixture
def path(files: ChannelFiles) -> str:
    return files.user_lock("x")


@pytest.fixture
def run(channel_dir: Path) -> Iterator[Callable[..., Process]]:
    """Give what runs a program in a process of its own."""
    processes = Processes()
    yield lambda program, *arguments: processes("-c", PROLOGUE + program, *arguments)
    processes.end()


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    wait_for(lambda: not _locks.queues, "no lock of this process is in use")
    wait_for(lambda: not helpers(), "the helper threads have ended")


@pytest.fixture
def holder(run: Callable[[str], Process]) -> Iterator[Process]:
    process = run(HOLD)
    process.expect("held")
    yield process
    process.end()


MOST = _LEFT + 1
"""How many threads one lock may have here, however often it was waited for in vain."""


def helpers() -> list[int]:
    """The helper threads of this process that have begun, by what the system calls them."""
    return [thread for thread, frame in sys._current_frames().items() if _serves(frame)]


def _serves(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is _serve.__code__:
            return True
        frame = frame.f_back
    return False


def waiting(path: str) -> int:
    """How many in this process wait for a lock."""
    queue = _locks.queues.get(path)
    return len(queue.waiting) if queue else 0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


# --- one holder -----------------------------------------------------------------------------------


async def test_it_is_held_and_released(files: ChannelFiles, path: str):
    lock = Lock(files, "x")
    assert not lock.held
    lock.release()  # harmless
    async with lock as same:
        assert same is lock
        assert lock.held
        assert is_locked(path)
        assert repr(lock) == "<Lock 'x' held>"
        assert lock.name == "x"
        assert not helpers()  # one that is free costs no thread
    assert not lock.held
    assert not is_locked(path)
    lock.release()
    await lock.acquire()
    lock.release()


async def test_names_and_channels_exclude_only_themselves(files: ChannelFiles):
    other = ChannelFiles.of(files.directory, "other")
    async with Lock(files, "x", 0), Lock(files, "y", 0), Lock(other, "x", 0):
        with pytest.raises(WaitTimeout):
            await Lock(files, "x", 0).acquire()
        with pytest.raises(WaitTimeout):
            blocking.Lock(files, "x", 0).acquire()


async def test_it_is_not_reentrant(files: ChannelFiles, path: str):
    lock = Lock(files, "x")
    async with lock:
        with pytest.raises(RuntimeError, match="already"):
            await lock.acquire()
        assert lock.held
        waiter = Lock(files, "x")
        task = asyncio.create_task(waiter.acquire())
        await until(lambda: waiting(path))
        with pytest.raises(RuntimeError, match="already"):
            await waiter.acquire()
        waiter.release()  # it is not held yet: nothing happens
        assert waiting(path)
    await task
    assert waiter.held
    waiter.release()


WORK = """
log = os.open(files.path("log"), os.O_RDWR | os.O_APPEND)
number = os.open(files.path("number"), os.O_RDWR)
def work():
    found = int(os.pread(number, 8, 0) or b"0")
    time.sleep(0.001)
    os.pwrite(number, b"%8d" % (found + 1), 0)
    os.write(log, b"%d %d\\n" % (found + 1, os.getpid()))
async def works():
    while True:
        async with bus.Lock(files, "x"):
            work()
while not {asynchronous}:
    with sync.Lock(files, "x"):
        work()
asyncio.run(works())
"""


def test_many_processes_whose_holders_are_killed(
    run: Callable[[str], Process], channel_dir: Path, files: ChannelFiles
):
    log = channel_dir / "log"
    log.touch()
    (channel_dir / "number").touch()
    workers: dict[int, Process] = {}

    def hire(asynchronous: bool) -> None:
        worker = run(WORK.replace("{asynchronous}", str(asynchronous)))
        workers[worker.pid] = worker

    def entries() -> list[list[int]]:
        lines = log.read_text().split("\n")[:-1]
        return [[int(word) for word in line.split()] for line in lines]

    def reached(goal: int) -> bool:
        return len(entries()) >= goal

    for index in range(8):
        hire(bool(index % 2))
    wait_for(lambda: len({pid for _, pid in entries()}) == 8, "each process has its turn")
    for turn in range(20):
        goal = len(entries()) + 5
        wait_for(partial(reached, goal), "they go on")
        last = next(pid for _, pid in reversed(entries()) if pid in workers)
        workers.pop(last).kill()
        hire(bool(turn % 2))
    for worker in workers.values():
        worker.kill()
    numbers = [number for number, _ in entries()]
    assert numbers == sorted(set(numbers))  # nobody read what another was about to change
    assert numbers[-1] - len(numbers) <= 28  # who is killed between two writes has counted as well
    with blocking.Lock(files, "x", 5.0):
        pass


# --- waiting --------------------------------------------------------------------------------------


async def test_a_waiter_is_woken_by_the_holders_death(
    run: Callable[[str], Process], files: ChannelFiles, path: str
):
    times: list[float] = []
    for _ in range(11):
        holder = run(HOLD)
        holder.expect("held")
        lock = Lock(files, "x")
        task = asyncio.create_task(lock.acquire())
        await until(lambda: waiting(path) and helpers())
        await asyncio.sleep(0)
        began = time.perf_counter()
        holder.popen.kill()
        await task
        times.append(time.perf_counter() - began)
        lock.release()
        holder.end()
    print(f"woken after a SIGKILL: median {statistics.median(times) * 1000:.2f} ms")
    assert max(times) < 1


async def test_a_waiter_is_woken_by_a_release(holder: Process, files: ChannelFiles, path: str):
    async def give() -> None:
        await until(lambda: waiting(path))
        holder.send("release")

    async with asyncio.TaskGroup() as group:
        group.create_task(give())
        async with Lock(files, "x", 20.0) as lock:
            assert lock.held


@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_a_timeout(holder: Process, files: ChannelFiles, timeout: float):
    lock = Lock(files, "x", timeout)
    began = time.monotonic()
    with pytest.raises(WaitTimeout) as caught:
        await lock.acquire()
    assert time.monotonic() - began >= timeout * 0.9
    assert (caught.value.what, caught.value.timeout) == ("lock 'x'", timeout)
    assert not lock.held
    holder.kill()
    await until(lambda: not _locks.queues)
    await lock.acquire()
    lock.release()


async def test_repeated_tries_do_not_pile_up(holder: Process, files: ChannelFiles, path: str):
    locks = [Lock(files, "x", 0.01) for _ in range(20)]
    for lock in locks:
        with pytest.raises(WaitTimeout):
            await lock.acquire()
        assert len(helpers()) <= MOST
    results = await asyncio.gather(*(lock.acquire() for lock in locks), return_exceptions=True)
    assert {type(result) for result in results} == {WaitTimeout}
    await until(lambda: len(helpers()) == MOST)
    holder.send("release")
    holder.expect("released")
    await until(lambda: not helpers())
    assert not is_locked(path)


async def test_the_last_thread_that_was_left_is_found_again(holder: Process, files: ChannelFiles):
    for _ in range(MOST):
        with pytest.raises(WaitTimeout):
            await Lock(files, "x", 0.01).acquire()
    with pytest.raises(WaitTimeout):
        await Lock(files, "x", 0).acquire()
    lock = Lock(files, "x")
    task = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    await until(lambda: len(helpers()) == MOST)
    holder.kill()
    await task
    lock.release()


async def test_a_thread_is_not_left_where_there_is_no_descriptor_for_it(
    holder: Process, files: ChannelFiles, monkeypatch: pytest.MonkeyPatch
):
    def fail() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(os, "pipe", fail)
    for _ in range(3):
        with pytest.raises(WaitTimeout):
            await Lock(files, "x", 0.01).acquire()
        await until(lambda: len(helpers()) == 1)
    monkeypatch.undo()
    holder.kill()
    await until(lambda: not helpers())


async def test_a_signal_ends_a_thread_that_was_left(holder: Process, files: ChannelFiles):
    before = len(os.listdir("/proc/self/fd"))
    former = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with pytest.raises(WaitTimeout):
            await Lock(files, "x", 0.01).acquire()
        await until(helpers)
        (thread,) = helpers()
        signal.pthread_kill(thread, signal.SIGUSR1)
        await until(lambda: not helpers())
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(WaitTimeout):
        await Lock(files, "x", 0).acquire()  # the holder's it is


GAVE_UP = """
import ctypes
from open_channel import WaitTimeout
async def wait(lock):
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
if sys.argv[1:] == ["cancel"]:
    asyncio.run(wait(bus.Lock(files, "x")))
else:
    try:
        sync.Lock(files, "x", 0.01).acquire()
    except WaitTimeout:
        pass
say(waits=False)
ctypes.PyDLL(None).sleep(100)  # with the GIL: nothing else of this process runs
"""


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_who_has_given_up_keeps_it_from_nobody(
    run: Callable[..., Process], files: ChannelFiles, how: str
):
    async with Lock(files, "x"):
        process = run(GAVE_UP, how)
        await asyncio.to_thread(process.expect, "waits")
    for _ in range(20):
        async with Lock(files, "x", 10):
            pass
    process.kill()


async def test_a_lock_that_nobody_wants_any_more_is_had_at_once(files: ChannelFiles):
    for _ in range(100):
        async with Lock(files, "x"):
            with pytest.raises(WaitTimeout):
                await Lock(files, "x", 0.001).acquire()
        # Not without any wait: the kernel gives it to the thread that was left, and frees it when
        # that has had a moment of the processor.
        async with Lock(files, "x", 10):
            pass


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_hundred_waiters_get_it_in_their_order(holder: Process, files: ChannelFiles, factory):
    async def main() -> list[int]:
        order: list[int] = []

        async def wait(number: int) -> None:
            async with Lock(files, "x"):
                order.append(number)
                assert len(helpers()) <= 2  # one of them may have nothing left to do but to end
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(wait(number)) for number in range(100)]
        await until(lambda: waiting(files.user_lock("x")) == 100)
        await until(lambda: len(helpers()) == 1)
        holder.kill()
        await asyncio.gather(*tasks)
        return order

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == list(range(100))


def test_threads_and_event_loops_share_one_queue(holder: Process, files: ChannelFiles, path: str):
    order: list[int] = []

    async def wait(number: int) -> None:
        async with Lock(files, "x"):
            order.append(number)

    def in_loop(number: int) -> None:
        asyncio.run(wait(number))

    def waits(count: int) -> bool:
        return waiting(path) == count

    def block(number: int) -> None:
        with blocking.Lock(files, "x"):
            order.append(number)

    threads = []
    for number in range(10):
        target = block if number % 2 else in_loop
        threads.append(threading.Thread(target=target, args=(number,)))
        threads[-1].start()
        wait_for(partial(waits, number + 1), "it waits")
    wait_for(lambda: len(helpers()) == 1, "there is one thread for all")
    holder.kill()
    for thread in threads:
        thread.join(20)
    assert order == list(range(10))


HOG = """
while True:
    with sync.Lock(files, "x"):
        say(got=True)
        time.sleep(0.002)
"""


async def test_one_who_asks_again_at_once_lets_others_in(
    run: Callable[[str], Process], files: ChannelFiles
):
    hog = run(HOG)
    hog.expect("got")
    for _ in range(10):
        async with Lock(files, "x", 10.0):
            pass
    hog.kill()


# --- cancellation and lost waiters ----------------------------------------------------------------


async def test_cancelled_while_it_waits(holder: Process, files: ChannelFiles, path: str):
    lock = Lock(files, "x")
    task = asyncio.create_task(lock.acquire())
    await until(lambda: waiting(path))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not waiting(path)
    assert not lock.held
    holder.kill()
    await until(lambda: not _locks.queues)
    assert not is_locked(path)
    async with lock:  # it can be used again
        pass


async def test_cancelled_after_it_was_handed_over(files: ChannelFiles, path: str):
    first, second = Lock(files, "x"), Lock(files, "x")
    await first.acquire()
    task = asyncio.create_task(second.acquire())
    await until(lambda: waiting(path))
    claim = second._claim
    assert claim is not None
    first.release()
    wait_for(lambda: claim.granted, "it is handed over")  # and the event loop is blocked meanwhile
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_locked(path)


async def test_a_waiter_that_is_collected(files: ChannelFiles, path: str):
    async with Lock(files, "x"):
        coroutine = Lock(files, "x").acquire()
        coroutine.send(None)
        assert waiting(path)
        del coroutine
        gc.collect()
        assert not waiting(path)


def test_a_waiter_whose_event_loop_is_closed(files: ChannelFiles, path: str):
    with blocking.Lock(files, "x") as first:
        loop = asyncio.new_event_loop()
        lost = Lock(files, "x").acquire()

        async def ask() -> None:
            lost.send(None)

        loop.run_until_complete(ask())
        assert waiting(path) == 1
        loop.close()
        first.release()
        with blocking.Lock(files, "x", 20.0):
            pass
    lost.close()


async def test_given_up_in_the_moment_of_the_handover(
    files: ChannelFiles, path: str, monkeypatch: pytest.MonkeyPatch
):
    """As by a signal handler, in the thread that has the guard."""
    read, second = LockFile.read, Lock(files, "x")

    def give_up(file: LockFile) -> bytes:
        second._claim.release()
        return read(file)

    async with Lock(files, "x"):
        task = asyncio.create_task(second.acquire())
        await until(lambda: waiting(path))
        monkeypatch.setattr(LockFile, "read", give_up)
    with pytest.raises(WaitTimeout):
        await task
    assert not is_locked(path)


# --- files ----------------------------------------------------------------------------------------


async def test_the_file_has_the_name(files: ChannelFiles, path: str):
    name = "nightly ü"
    async with Lock(files, name) as lock:
        content = Path(files.user_lock(name)).read_bytes()
        assert json.loads(content) == {"name": "shop", "lock": name}
        assert os.path.basename(files.user_lock(name)).startswith(f"{files.key}.k.")
        assert len(files.user_lock(name)) == len(path)
        assert lock.held
    changed = os.stat(files.user_lock(name)).st_mtime_ns
    async with lock:
        assert os.stat(files.user_lock(name)).st_mtime_ns == changed


async def test_two_names_with_one_hash(files: ChannelFiles, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(directory, "_hash", lambda name: "0" * 20)
    async with Lock(files, "x"):
        task = asyncio.create_task(Lock(files, "z").acquire())
        await until(lambda: waiting(files.user_lock("x")))
    for attempt in (task, Lock(files, "y").acquire()):
        with pytest.raises(NameCollision) as caught:
            await attempt
        assert (caught.value.name in "yz", caught.value.other) == (True, "x")
        assert caught.value.path == files.user_lock("x")
    async with Lock(files, "x", 0):
        pass


@pytest.mark.parametrize("content", [b"", b"half a li", b"[]\n", b'{"lock": 3}\n', b"\xff\n"])
async def test_a_file_that_is_no_record(files: ChannelFiles, path: str, content: bytes):
    Path(path).write_bytes(content)
    async with Lock(files, "x"):
        assert json.loads(Path(path).read_bytes())["lock"] == "x"


async def test_a_full_disk(files: ChannelFiles, monkeypatch: pytest.MonkeyPatch):
    def full(lock: LockFile, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LockFile, "write", full)
    async with Lock(files, "x") as lock:
        assert lock.held


async def test_the_file_is_deleted_while_it_is_free(files: ChannelFiles, path: str):
    async with Lock(files, "x"):
        pass
    os.unlink(path)
    async with Lock(files, "x") as lock:
        assert lock.held
        with pytest.raises(WaitTimeout):
            await Lock(files, "x", 0).acquire()


async def test_the_file_is_deleted_while_one_waits(holder: Process, files: ChannelFiles, path: str):
    lock = Lock(files, "x")
    task = asyncio.create_task(lock.acquire())
    await until(lambda: waiting(path) and helpers())
    os.unlink(path)
    holder.kill()
    await task
    assert lock.held  # the file that the path names now
    os.unlink(path)
    assert not lock.held
    lock.release()


async def test_the_directory_is_deleted(files: ChannelFiles, path: str):
    os.rmdir(files.directory)
    async with Lock(files, "x") as lock:
        assert lock.held
        assert os.stat(files.directory).st_mode & 0o777 == 0o700


async def test_the_directory_is_deleted_just_before_the_file_is_opened(
    files: ChannelFiles, path: str, monkeypatch: pytest.MonkeyPatch
):
    make, deletions = secure, [1, 1, 0]

    def make_in_vain(path: str) -> None:
        make(path)
        if deletions.pop(0):
            shutil.rmtree(path)

    monkeypatch.setattr("open_channel.io.locks.secure", make_in_vain)
    async with Lock(files, "x") as lock:
        assert lock.held
        deletions[:] = [1, 0]  # in the helper thread
        async with Lock(files, "x") as other:
            assert deletions == []
            assert (lock.held, other.held) == (False, True)
    deletions[:] = [1] * 100
    with pytest.raises(ChannelError, match="No such file"):
        await Lock(files, "y").acquire()


@pytest.mark.parametrize(
    ("make", "why", "remove"),
    [(os.mkdir, "directory", os.rmdir), (os.mkfifo, "not a regular file", os.unlink)],
)
async def test_what_is_no_file_cannot_be_locked(files: ChannelFiles, path: str, make, why, remove):
    make(path)  # in the lock's place
    with pytest.raises(ChannelError, match=rf"lock 'x'.*{why}") as caught:
        await Lock(files, "x").acquire()
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(ChannelError, match=rf"lock 'x'.*{why}"):
        blocking.Lock(files, "x").acquire()
    remove(path)


async def test_an_error_of_the_system_reaches_all_who_wait(
    files: ChannelFiles, path: str, monkeypatch: pytest.MonkeyPatch
):
    go_on = threading.Event()

    def fail(lock: WaitedLockFile) -> None:
        go_on.wait(20)
        raise OSError(37, "No locks available")

    monkeypatch.setattr(WaitedLockFile, "wait", fail)
    async with Lock(files, "x"):
        waiters = [asyncio.create_task(Lock(files, "x").acquire()) for _ in range(3)]
        await until(lambda: waiting(path) == 3)
        go_on.set()
        results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [str(result) for result in results] == ["lock 'x': [Errno 37] No locks available"] * 3
    assert len(set(map(id, results))) == 3


async def test_no_more_threads(files: ChannelFiles, path: str, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    async with Lock(files, "x"):
        lock = Lock(files, "x", 20.0)
        with monkeypatch.context() as patch:
            patch.setattr(_thread, "start_new_thread", fail)
            with pytest.raises(RuntimeError, match="thread"):
                await lock.acquire()
        task = asyncio.create_task(lock.acquire())
        await until(lambda: waiting(path))
    await task
    lock.release()


@pytest.mark.parametrize("kind", [Lock, blocking.Lock])
def test_what_cannot_be(files: ChannelFiles, kind):
    for name in ("", "a\nb", None, "\ud800"):
        with pytest.raises(NameInvalid, match="lock or leadership name"):
            kind(files, name)
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            kind(files, "x", timeout)


# --- forks ----------------------------------------------------------------------------------------

FORKED = {
    "the child releases": """
lock = sync.Lock(files, "x"); lock.acquire()
if not os.fork():  # HERE
    assert not lock.held
    lock.release()
    assert not own_descriptors()
    try: sync.Lock(files, "x", 0).acquire()
    except TimeoutError: os._exit(0)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert lock.held
say(fine=True)
""",
    "the child takes it when the parent lets go": """
lock = sync.Lock(files, "x"); lock.acquire()
if not os.fork():
    lock.acquire()
    say(fine=lock.held)
    lock.release()
    os._exit(0)
lock.release()
os.wait()
""",
    "the child of one who waits has nothing": """
lock = sync.Lock(files, "x"); lock.acquire()
waiter = sync.Lock(files, "x")
threading.Thread(target=waiter.acquire).start()
until(lambda: waiter._claim and waiter._claim.waiting and len(own_descriptors()) == 2)
if not os.fork():
    assert not own_descriptors()
    lock.release()
    waiter.release()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert lock.held
lock.release()
until(lambda: waiter.held)
waiter.release()
say(fine=True)
""",
    "forks amid a thread that locks": """
def work():
    while True:
        with sync.Lock(files, "x"): pass
        with sync.Lock(files, "y", 0): pass
threading.Thread(target=work, daemon=True).start()
for _ in range(200):
    if not os.fork():
        os._exit(len(own_descriptors()))
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
say(fine=True)
""",
}
DESCRIPTORS = """
def own_descriptors():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try: found.append(os.readlink("/proc/self/fd/" + fd))
        except OSError: pass
    return [path for path in found if path.startswith(files.path(files.key + ".k."))]
def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
"""


@pytest.mark.parametrize("name", FORKED)
def test_a_fork(run: Callable[[str], Process], name: str):
    program = run(DESCRIPTORS + FORKED[name])
    assert program.expect("fine")["fine"]
    assert program.popen.wait(20) == 0
    assert program.errors() == ""


def test_a_child_does_not_keep_its_killed_parents_lock(
    run: Callable[[str], Process], holder: Process, files: ChannelFiles
):
    """Neither one that the parent had, nor one that it waited for."""
    parent = run("""
with sync.Lock(files, "y"):
    waiter = sync.Lock(files, "x")
    threading.Thread(target=waiter.acquire, daemon=True).start()
    while not (waiter._claim and waiter._claim.waiting): time.sleep(0.001)
    if os.fork():
        say(forked=True)
    while not waiter.held: time.sleep(0.001)
    say(held=True)
    time.sleep(60)
""")
    parent.expect("forked")
    holder.kill()
    parent.expect("held")
    parent.kill()
    for name in "xy":
        with blocking.Lock(files, name, 1.0):
            pass


# --- leading --------------------------------------------------------------------------------------


async def test_it_returns_what_run_returns(
    files: ChannelFiles, path: str, caplog: pytest.LogCaptureFixture
):
    async def run() -> bool:
        return is_locked(path)

    with caplog.at_level(logging.INFO, "open_channel"):
        assert await lead(Lock(files, "x"), run) is True
    assert [record.getMessage() for record in caplog.records] == [
        "shop: this process leads 'x'",
        "shop: this process leads 'x' no more",
    ]
    assert await lead(Lock(files, "x"), lambda: is_locked(path)) is True
    assert blocking.lead(blocking.Lock(files, "x"), lambda: is_locked(path)) is True
    assert not is_locked(path)


async def test_it_ends_with_run(files: ChannelFiles, path: str):
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await lead(Lock(files, "x"), fail)
    with pytest.raises(ZeroDivisionError):
        blocking.lead(blocking.Lock(files, "x"), lambda: 1 // 0)
    assert not is_locked(path)
    leading, next_one = (
        asyncio.create_task(lead(Lock(files, "x"), asyncio.Event().wait)) for _ in range(2)
    )
    await until(lambda: waiting(path))
    for task in (leading, next_one):
        await until(lambda: is_locked(path))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: not is_locked(path))


LEAD = """
async def run():
    say(leads=True)
    await asyncio.Event().wait()
asyncio.run(bus.lead(bus.Lock(files, "x"), run))
"""
LEAD_BLOCKING = """
sync.lead(sync.Lock(files, "x"), lambda: (say(leads=True), time.sleep(60)))
"""


def test_another_leads_when_the_leader_is_killed(run: Callable[[str], Process]):
    crew = [run(LEAD), run(LEAD_BLOCKING), run(LEAD)]
    while crew:
        (leader,) = wait_for(lambda: [each for each in crew if each.events], "somebody leads")
        leader.kill()
        crew.remove(leader)


# --- blocking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_blocking_with_a_timeout(holder: Process, files: ChannelFiles, timeout: float):
    lock = blocking.Lock(files, "x", timeout)
    with pytest.raises(WaitTimeout, match="lock 'x'"):
        lock.acquire()
    assert not lock.held
    holder.kill()
    wait_for(lambda: not _locks.queues, "the helper thread lets go")
    with lock:
        assert lock.held
        with pytest.raises(RuntimeError, match="already"):
            lock.acquire()
        assert lock.held


def test_blocking_interrupted_by_a_signal(run: Callable[[str], Process], holder: Process):
    program = run("""
import signal
lock = sync.Lock(files, "x")
def once(*_):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, once)
def interrupt():
    while not (lock._claim and lock._claim.waiting): pass
    while lock._claim:  # a signal just before the thread goes to sleep does not wake it
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.01)
threading.Thread(target=interrupt).start()
try: lock.acquire()
except KeyboardInterrupt: say(interrupted=True)
sys.stdin.readline()
lock.acquire()
say(held=lock.held)
""")
    program.expect("interrupted")
    holder.kill()
    program.send("again")
    assert program.expect("held")["held"]
