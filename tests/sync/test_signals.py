"""Blocking calls in signal handlers, which run in the midst of another blocking call."""

from __future__ import annotations

from tests.channel.programs import Programs

BEGINNING = """
import signal, time
from open_channel.sync import open_channel
"""

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
    program = run(
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
"""
    )
    assert program.line() == "True"
    assert program.wait_end() == 0, program.errors()


def test_a_handler_that_closes_the_channel_of_one_who_takes_and_publishes(run: Programs):
    program = run(
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
"""
    )
    assert program.line() == "True"
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_a_handler_that_closes_the_socket_of_one_who_writes_and_reads(run: Programs):
    program = run(
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
"""
    )
    assert program.line() == "True"
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""
