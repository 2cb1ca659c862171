"""Where the library's own thread cannot run, or would run nothing, that is said at once."""

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


def test_a_coroutine_function_cannot_lead(run: Programs):
    program = run(
        """
        from open_channel.sync import open_channel

        async def schedule():
            pass

        with open_channel("leads") as channel:
            try:
                channel.lead("scheduler", schedule)
            except TypeError as error:
                print(error)
        """
    )
    assert program.line() == "what leads with the blocking API is a plain function"


def test_who_waits_to_lead_ends_with_the_process_and_says_nothing(run: Programs):
    program = run(
        """
        import threading, time
        from open_channel.sync import open_channel
        first, second = open_channel("leads"), open_channel("leads")
        first.publish("t", b"x")
        second.publish("t", b"x")
        leads = threading.Event()
        threading.Thread(
            target=first.lead, args=("l", lambda: (leads.set(), time.sleep(60))), daemon=True
        ).start()
        leads.wait()
        threading.Thread(target=second.lead, args=("l", print), daemon=True).start()
        time.sleep(0.1)
        print("ends")
        """
    )
    assert program.line() == "ends"
    program.popen.wait(20)
    assert "Traceback" not in program.errors()
