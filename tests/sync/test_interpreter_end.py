"""What is still open when the interpreter ends, and what is closed or begun in its last moments."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.channel.programs import Program, Programs

BEGINNING = """
from open_channel.sync import open_channel

def listener(socket):
    for message in socket:
        socket.write(message)
"""


# Whether the interpreter runs a destructor at its end depends on what the threads hold which stand
# still then. So what is run says nothing: it only must not hang or complain.
def ended_well(program: Program) -> None:
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


@pytest.mark.parametrize("end", ["close", "destroy"])
def test_a_destructor_that_closes_its_socket(run: Programs, end: str):
    program = run(
        BEGINNING
        + f"""
class Client:
    def __init__(self):
        self.socket = open_channel("del", listener).connect()
        self.socket.write(b"1")
        assert self.socket.read(10) == b"1"

    def __del__(self):
        self.socket.{end}()

client = Client()
print("begun")
"""
    )
    assert program.line() == "begun"
    ended_well(program)


@pytest.mark.parametrize(
    "thing",
    [
        "channel",
        "channel.connect()",
        "channel.subscribe('topic')",
        "channel.subscribe('jobs', group='workers')",
        "channel.serve('name', print)",
        "channel.lock('name')",
        "channel.watch_members()",
    ],
)
def test_a_generator_that_waits_within_a_block(run: Programs, thing: str):
    """The interpreter closes it, and so leaves the block, after the channels were closed."""
    program = run(
        BEGINNING
        + f"""
channel = open_channel("generator", listener)

def generate():
    with {thing}:
        yield "inside"

waiting = generate()
print(next(waiting))
"""
    )
    assert program.line() == "inside"
    ended_well(program)


# --- a first use after the main thread has ended --------------------------------------------------

# The interpreter waits for this thread, but registers nothing for its end any more: uvloop, which
# the tests have installed, cannot be imported then.
LATE = """
def late():
    threading.main_thread().join()
    work()

threading.Thread(target=late).start()
"""


def starts_threads() -> bool:
    """Whether a thread can be started when the main one has ended: not so in Python 3.12.1."""
    program = """if True:
        import threading

        def late():
            threading.main_thread().join()
            threading.Thread(target=print, args=["started"]).start()

        threading.Thread(target=late).start()
    """
    end = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    return end.stdout == b"started\n"


STARTS_THREADS = starts_threads()
needs_threads = pytest.mark.skipif(not STARTS_THREADS, reason="no thread is started so late")


@needs_threads
def test_a_blocking_channel_in_a_thread_that_outlives_the_main_one(run: Programs):
    program = run(
        "import threading\n"
        + BEGINNING
        + """
def work():
    with open_channel("late", listener).connect() as socket:
        socket.write(b"hello")
        print(socket.read(10).decode())
"""
        + LATE
    )
    assert program.line() == "hello"
    ended_well(program)


@needs_threads
def test_a_bus_in_a_thread_that_outlives_the_main_one(run: Programs):
    program = run(
        """
import asyncio, threading
from open_channel import open_channel

async def use():
    async with open_channel("late") as channel, channel.subscribe("topic") as messages:
        await channel.publish("topic", "hello")
        print((await messages.get()).data)

def work():
    asyncio.run(asyncio.wait_for(use(), 10))
"""
        + LATE
    )
    assert program.line() == "hello"
    ended_well(program)


@pytest.mark.skipif(STARTS_THREADS, reason="threads are started until the end")
def test_without_its_thread_a_channel_says_so_and_leaves_nothing(run: Programs):
    program = run(
        "import threading\n"
        + BEGINNING
        + """
def work():
    for _ in range(2):
        try:
            open_channel("late", listener).connect()
        except RuntimeError as error:
            print(error)
"""
        + LATE
    )
    for _ in range(2):
        assert program.line().endswith(": can't create new thread at interpreter shutdown")
    ended_well(program)
