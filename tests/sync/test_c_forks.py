"""Children of C code, which forks without Python's hooks, as uWSGI does: they notice themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from open_channel.sync import Channel
from tests.channel.programs import C_FORK, Program, Programs

Join = Callable[..., Channel]

DEADLINE = 20.0

BEGIN = """
import ctypes, os, sys, threading
from open_channel import ChannelClosed, ChannelForked, WaitTimeout
from open_channel.sync import open_channel

def ended_well(child):
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture
def forking(run: Programs) -> Callable[[str], Program]:
    """Give what runs a program that forks with C code."""
    return lambda source: run(C_FORK + BEGIN + source)


def ended_well(program: Program) -> None:
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_a_child_speaks_for_itself_as_a_new_member(
    join: Join, forking: Callable[[str], Program]
) -> None:
    shop = join()
    with shop.subscribe("t") as messages, shop.serve("double", lambda request: request.data * 2):
        program = forking("""
shop = open_channel("shop", hosts=False)
shop.publish("t", "parent", confirm=True)
member = shop.member
child = fork()
if not child:
    shop.publish("t", "first")
    shop.publish("t", "child", confirm=True, timeout=10)
    assert shop.member != member
    assert shop.request("double", 4) == 8
    assert {m.pid for m in shop.members} >= {os.getpid(), os.getppid()}
    with shop.lock("l", timeout=10), shop.subscribe("own") as own:
        shop.publish("own", 1)
        assert own.get(10).data == 1
    shop.close()
    os._exit(0)
ended_well(child)
assert shop.member == member
shop.publish("t", "parent again", confirm=True)
shop.close()
""")
        ended_well(program)
        received = [messages.get(DEADLINE) for _ in range(4)]
    assert [message.data for message in received] == ["parent", "first", "child", "parent again"]
    senders = [message.sender for message in received]
    assert senders[0] == senders[3] != senders[1] == senders[2]


@pytest.mark.parametrize(
    "use",
    [
        "shop.publish('t', 'child', confirm=True, timeout=10)",
        "shop.__enter__()",
        "shop.connect().wait_connected(10)",
        "socket.read(10)",
        "assert not shop.hosting",
        "shop.lock('free', timeout=10).acquire()",
        "open_channel('shop').publish('t', 'child', confirm=True, timeout=10)",
        "assert not lock.held",
        "lock.release()",
        "shop.close()",
        "refused(messages.get)",
        "refused(messages.take)",
        "refused(changes.get)",
        "messages.__exit__(None, None, None)",
    ],
)
def test_whatever_comes_first_notices(forking: Callable[[str], Program], use: str) -> None:
    program = forking(f"""
def refused(use):
    try:
        use()
    except ChannelForked:
        return
    raise AssertionError(use)

def listener(socket):
    socket.write(b"welcome")
    for message in socket:
        pass

shop = open_channel("shop", listener)
socket = shop.connect()
lock = shop.lock("l")
with lock, shop.subscribe("t") as messages:
    assert socket.read(10) == b"welcome"
    changes = shop.watch_members()
    child = fork()
    if not child:
        {use}
        os._exit(0)
    ended_well(child)
    assert lock.held
    shop.publish("t", "parent", confirm=True)
    while messages.get(10).data != "parent":
        pass
changes.close()
shop.close()
""")
    ended_well(program)


def test_threads_that_come_at_once_wait_for_the_first(
    join: Join, forking: Callable[[str], Program]
) -> None:
    with join().subscribe("t") as messages:
        program = forking("""
shop = open_channel("shop", hosts=False)
shop.publish("t", -1, confirm=True)
child = fork()
if not child:
    sys.setswitchinterval(1e-6)
    together = threading.Barrier(8)

    def publish(number):
        together.wait()
        shop.publish("t", number, confirm=True, timeout=10)

    threads = [threading.Thread(target=publish, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([m for m in shop.members if m.pid == os.getpid()]) == 1
    assert [t.name for t in threading.enumerate()].count("open-channel") <= 2  # one is the parent's
    shop.close()
    os._exit(0)
ended_well(child)
shop.close()
""")
        ended_well(program)
        received = [messages.get(DEADLINE) for _ in range(9)]
    assert sorted(message.data for message in received) == list(range(-1, 8))
    assert len({message.sender for message in received}) == 2


def test_a_lock_stays_the_parents(join: Join, forking: Callable[[str], Program]) -> None:
    program = forking("""
shop = open_channel("shop")
lock, other = shop.lock("l", timeout=0.1), shop.lock("l", timeout=0.1)
lock.acquire()
child = fork()
if not child:
    for mine in (other, lock):
        try:
            mine.acquire()
        except WaitTimeout:
            assert not mine.held
        else:
            raise AssertionError
    print("waited", flush=True)
    threading.Event().wait(60)
assert lock.held
threading.Event().wait(60)
""")
    assert program.line() == "waited"
    program.kill()
    # The child lives on, and does not hold what its parent held.
    with join().lock("l", timeout=DEADLINE) as lock:
        assert lock.held


def test_a_thread_of_the_parents_holds_nothing_in_the_child(
    forking: Callable[[str], Program],
) -> None:
    """C code forks while another thread is wherever it is."""
    program = forking("""
from open_channel.io import fork as forks, locks
from open_channel.io.background import _background

shop = open_channel("shop")
shop.publish("t", 1, confirm=True)
inside, done = threading.Event(), threading.Event()

def hold():
    with locks._locks.guard, forks.guard, _background._lock:
        inside.set()
        done.wait()

holder = threading.Thread(target=hold)
holder.start()
inside.wait()
child = fork()
if not child:
    with shop.lock("l", timeout=10):
        shop.publish("t", 1, confirm=True, timeout=10)
    if not os.fork():  # the hooks go on with what is there now
        shop.publish("t", 1, confirm=True, timeout=10)
        os._exit(0)
    assert os.wait()[1] == 0
    os._exit(0)
done.set()
holder.join()
ended_well(child)
shop.close()
""")
    assert program.wait_end() == 0, program.errors()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python ends such a process itself")
def test_a_hook_that_is_called_in_the_child_alone_is_enough(
    forking: Callable[[str], Program],
) -> None:
    """C code may tell Python of the fork when it is done, and not before."""
    program = forking("""
shop = open_channel("shop")
lock = shop.lock("l", timeout=0.1)
lock.acquire()
child = fork()
if not child:
    ctypes.pythonapi.PyOS_AfterFork_Child()
    assert not lock.held
    shop.publish("t", 1, confirm=True, timeout=10)
    os._exit(0)
ended_well(child)
shop.close()
""")
    ended_well(program)


def test_a_child_of_a_child_notices_too(join: Join, forking: Callable[[str], Program]) -> None:
    with join().subscribe("t") as messages:
        program = forking("""
shop = open_channel("shop", hosts=False)
for generation in range(4):
    child = 0
    if generation != 2:  # one that never uses it
        shop.publish("t", generation, confirm=True, timeout=10)
    if child := fork():
        ended_well(child)
        break
os._exit(0)
""")
        assert program.wait_end() == 0, program.errors()
        received = [messages.get(DEADLINE) for _ in range(3)]
    assert [message.data for message in received] == [0, 1, 3]
    assert len({message.sender for message in received}) == 3
