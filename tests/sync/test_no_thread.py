"""Where the library's own thread cannot run, that is said at once, and by one class."""

from __future__ import annotations

from tests.channel.programs import Programs

TRIES = """
import sys, threading, time
from open_channel.sync import open_channel
{before}
from open_channel import ChannelError

begin = time.monotonic()
channel = open_channel("threads", lambda socket: None)
for use in (
    channel.connect,
    channel.__enter__,
    lambda: channel.publish("t", b"x"),
    lambda: channel.subscribe("t").__enter__(),
    lambda: channel.lock("l").__enter__(),
):
    try:
        use()
    except ChannelError as error:
        print(type(error).__name__, isinstance(error, RuntimeError), error)
channel.close()
print("closed")
"""

GREEN = """
import _thread
original = _thread.start_new_thread
def start_new_thread(function, arguments, keywords={}):  # as gevent and eventlet replace it
    function(*arguments, **keywords)
_thread.start_new_thread = threading._start_new_thread = start_new_thread
"""

NONE_LEFT = """
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""


def test_threads_that_are_none_are_refused(run: Programs):
    program = run(TRIES.format(before=GREEN))
    for _ in range(5):
        line = program.line()
        assert line.startswith("NoThread True no thread to run channels in: ")
        assert "gevent" in line
    assert program.line() == "closed"


def test_a_thread_that_cannot_be_started_is_told(run: Programs):
    program = run(TRIES.format(before=NONE_LEFT))
    for _ in range(5):
        assert program.line() == (
            "NoThread True no thread to run channels in: can't start new thread"
        )
    assert program.line() == "closed"


def test_what_was_never_used_is_closed_without_a_thread(run: Programs):
    program = run(
        """
        import threading
        from open_channel import ChannelClosed
        from open_channel.sync import open_channel
        channel = open_channel("unused")
        channel.close()
        print(threading.active_count())
        try:
            channel.publish("t", b"x")
        except ChannelClosed:
            print("closed")
        print(channel.state)
        """
    )
    assert [program.line() for _ in range(3)] == ["1", "closed", "closed"]
