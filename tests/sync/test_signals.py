"""Blocking calls in signal handlers, which run in the midst of another blocking call."""

from __future__ import annotations

import textwrap

import pytest

from tests.channel.programs import Program, Programs

BEGINNING = """
import signal, time
from open_channel.sync import open_channel
"""


def goes_well(run: Programs, source: str) -> Program:
    """Run a program that says that all is well, and ends; it tells what else it has to say."""
    program = run(source)
    assert program.line() == "True", program.errors()
    assert program.wait_end() == 0, program.errors()
    return program


CLOSING = """
class Over(BaseException):
    pass

def handler(*_):
    channel.close()
    raise Over

signal.signal(signal.SIGALRM, handler)
"""


def test_a_request_in_a_handler_of_one_who_requests(run: Programs):
    """With ``concurrent.futures`` it stood still within some thousand."""
    goes_well(
        run,
        BEGINNING
        + """
channel = open_channel("signals")
asked = [0, 0]

busy = False

def handler(*_):
    global busy
    if not busy:
        busy = True
        assert channel.request("echo", b"handler", timeout=20) == b"handler"
        asked[1] += 1
        busy = False

signal.signal(signal.SIGALRM, handler)
with channel, channel.serve("echo", lambda request: request.body):
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert channel.request("echo", b"main", timeout=20) == b"main"
        asked[0] += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(min(asked) > 20 or asked)
""",
    )


def test_a_handler_that_closes_the_channel_of_one_who_takes_and_publishes(run: Programs):
    program = goes_well(
        run,
        BEGINNING
        + CLOSING
        + """
longest = 0
for number in range(40):
    channel = open_channel(f"signals {number % 4}")
    try:
        with channel.subscribe("news") as news:
            signal.setitimer(signal.ITIMER_REAL, 0.005 + number % 17 / 1000)
            while True:
                channel.publish("news", b"x")
                news.get()
                news.get(timeout=0) if news.backlog else None
    except Over:
        pass
    begun = time.monotonic()
    channel.close()
    longest = max(longest, time.monotonic() - begun)
print(longest < 4)
""",
    )
    assert program.errors() == ""


def test_a_handler_that_closes_the_socket_of_one_who_writes_and_reads(run: Programs):
    program = goes_well(
        run,
        BEGINNING
        + CLOSING
        + """
def listener(socket):
    for message in socket:
        socket.write(message)

longest = 0
for number in range(40):
    host = open_channel(f"signals {number}", listener)
    host.connect().wait_connected(20)
    channel = open_channel(f"signals {number}")
    socket = channel.connect()
    socket.wait_connected(20)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003 + number % 17 / 1000)
        while True:
            for _ in range(5):
                socket.write(b"x")
            for _ in range(5):
                socket.read()
    except Over:
        pass
    begun = time.monotonic()
    channel.close()
    host.close()
    longest = max(longest, time.monotonic() - begun)
print(longest < 4 or longest)
""",
    )
    assert program.errors() == ""


TAKING = """
import os, threading
publisher = open_channel("signals", hosts=False)
over = threading.Event()

def publish():
    number = 0
    while not over.is_set():
        for _ in range(50):
            publisher.publish(TOPIC, number)
            number += 1
        publisher.flush()

asked = taken = 0

def handler(*_):
    global asked
    assert channel.publish("news", b"x", confirm=True, timeout=20) == ()
    also()
    asked += 1
    signal.setitimer(signal.ITIMER_REAL, 0.001)

signal.signal(signal.SIGALRM, handler)
also = lambda: None
thread = threading.Thread(target=publish, daemon=True)
"""
TAKEN = """
over.set()
signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(min(asked, taken) > 20 or (asked, taken))
os._exit(0)  # what was published last nobody takes
"""


@pytest.mark.parametrize("also", ["", "also = lambda: job.ack()"])
@pytest.mark.parametrize("ack", ["next", "manual"])
def test_a_handler_that_publishes_while_jobs_are_taken(run: Programs, ack: str, also: str):
    goes_well(
        run,
        f"{BEGINNING}TOPIC = 'jobs'{TAKING}"
        f"""
with open_channel("signals") as channel, channel.subscribe("news") as news:
    with channel.subscribe("jobs", group="g", ack="{ack}") as jobs:
        thread.start()
        job = jobs.get(timeout=20)
        {also}
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            job.ack()
            job = jobs.get(timeout=20)
            taken += 1
{textwrap.indent(TAKEN, "        ")}""",
    )


@pytest.mark.parametrize("way", ["get", "batches"])
def test_a_handler_that_publishes_and_takes_while_messages_are_taken(run: Programs, way: str):
    """None comes twice, and what is missing was dropped and told."""
    goes_well(
        run,
        f"{BEGINNING}TOPIC = 'numbers'{TAKING}"
        f"""
numbers = set()
missed = twice = 0

def note(messages):
    global missed, taken, twice
    for message in messages:
        missed += message.missed
        twice += message.data in numbers
        numbers.add(message.data)
        taken += 1

def also():
    message = some.take()
    note([message] if message is not None else [])

with open_channel("signals") as channel, channel.subscribe("news") as news:
    with channel.subscribe("numbers", queue=1000) as some:
        thread.start()
        batches = some.batches()
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            note([some.get(timeout=20)] if "{way}" == "get" else next(batches))
        signal.setitimer(signal.ITIMER_REAL, 0)
        over.set()
        thread.join(20)
        while (message := some.take()) is not None:
            note([message])
        assert missed == some.missed and not twice, (missed, some.missed, twice)
        assert max(numbers) + 1 == missed + taken, (max(numbers), missed, taken)
{textwrap.indent(TAKEN, "        ")}""",
    )


# A handler that raises: a Ctrl-C whose program goes on, or a timeout of its own making.
RAISING = """
import random, sys

class Over(BaseException):
    pass

def ours(frame):
    while frame is not None:
        if "open_channel" in frame.f_code.co_filename:
            # Not as a function begins: before its first line nothing can be done, or undone.
            return frame.f_lineno != frame.f_code.co_firstlineno
        frame = frame.f_back  # of another call of this handler, maybe
    return False

def handler(_, frame):
    if armed:
        if ours(frame):
            raise Over
        signal.setitimer(signal.ITIMER_REAL, 0.0001)

signal.signal(signal.SIGALRM, handler)
chance = random.Random(1)
armed = False
interrupted = 0

def soon(most):
    global armed
    armed = True
    signal.setitimer(signal.ITIMER_REAL, 1e-6 + chance.random() * most)

def no_more():
    global armed
    armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)

def again_and_again(seconds, use):
    global interrupted
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            use()
            no_more()
        except Over:
            no_more()
            interrupted += 1

def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


def test_a_block_that_is_left_is_left_though_a_handler_raises_meanwhile(run: Programs):
    goes_well(
        run,
        BEGINNING
        + RAISING
        + """
with open_channel("signals") as channel, open_channel("signals") as other:
    for make in (
        lambda: channel.subscribe("news"),
        lambda: channel.subscribe("news", group="g"),
        lambda: channel.serve("echo", lambda request: b""),
    ):
        def use():
            with make():
                soon(0.0005)

        again_and_again(1.5, use)
        until(lambda: not other.request("$broker")["members"][channel.member]["subscriptions"])
        assert other.publish("news", b"", confirm=True, timeout=10) == ()
print(interrupted > 30 or interrupted)
""",
    )


def test_a_channel_that_is_entered_or_left_is_no_phantom_though_a_handler_raises(run: Programs):
    goes_well(
        run,
        BEGINNING
        + RAISING
        + """
with open_channel("signals") as channel:
    for leaving in False, True:
        def use():
            soon(0.004)
            with open_channel("signals"):
                no_more()
                if leaving:
                    soon(0.004)

        again_and_again(1.5, use)
        until(lambda: len(channel.request("$broker")["members"]) == 1)
print(interrupted > 30 or interrupted)
""",
    )


def test_what_is_published_next_does_not_overtake_what_a_handler_interrupted(run: Programs):
    goes_well(
        run,
        BEGINNING
        + RAISING
        + """
with open_channel("signals") as channel, channel.subscribe("news") as news:
    number = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        number += 1
        try:
            soon(0.0003)
            channel.publish("news", number, confirm=True)
            no_more()
        except Over:
            no_more()
            interrupted += 1
        number += 1
        channel.publish("news", number)
    assert channel.flush(timeout=10) == ()
    got = []
    while news.backlog:
        got.append(news.get(timeout=0).data)
    assert got == sorted(set(got)), "out of order, or double"
    assert set(got) >= set(range(2, number + 1, 2)), "lost"
print(interrupted > 100 or interrupted)
""",
    )


def test_a_socket_goes_on_though_a_handler_raises(run: Programs):
    goes_well(
        run,
        BEGINNING
        + RAISING
        + """
def listener(socket):
    for message in socket:
        socket.write(message)

channel = open_channel("signals", listener)
socket = channel.connect()
end = time.monotonic() + 2
while time.monotonic() < end:
    try:
        soon(0.002)
        while True:
            socket.write(b"x")
            socket.read()
    except Over:
        no_more()
        interrupted += 1
    socket.write(b"end")
    while socket.read(timeout=10) != b"end":
        pass
channel.close()
print(interrupted > 300 or interrupted)
""",
    )


def test_what_a_handler_raises_is_not_lost(run: Programs):
    """Python drops what is raised while it calls back for a weak reference."""
    program = goes_well(
        run,
        BEGINNING
        + RAISING
        + """
raised = 0

def handler(_, frame):
    global raised
    # Not where the loop below jumps back: Python 3.13 takes that for outside of its "try".
    if not ours(frame):
        signal.setitimer(signal.ITIMER_REAL, 0.0001)
        return
    raised += 1
    raise Over

signal.signal(signal.SIGALRM, handler)
with open_channel("signals") as channel:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        before = raised
        try:
            soon(0.001)
            while raised == before:
                channel.flush()
        except Over:
            interrupted += 1
print((interrupted > 300 and interrupted == raised) or (interrupted, raised))
""",
    )
    assert program.errors() == ""


def test_a_lock_that_is_waited_for_raises_what_a_handler_raises(run: Programs):
    goes_well(
        run,
        BEGINNING
        + RAISING
        + """
def handler(_, frame):
    if armed:
        raise Over

armed = False
signal.signal(signal.SIGALRM, handler)
with open_channel("signals") as channel:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        name = f"one of {interrupted}"  # another may stay taken: see docs/how-to/blocking.md
        try:
            armed = True
            soon(0.001)
            with channel.lock(name, timeout=10):
                armed = False
            with channel.lock(name, timeout=10):  # taken again at once, by way of a thread
                armed = True
            armed = False
        except Over:
            armed = False
            interrupted += 1
        no_more()
print(interrupted > 30 or interrupted)
""",
    )
