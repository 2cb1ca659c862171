"""The blocking API in the library's own thread, where a finalizer may run: it waits for nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import pytest

from open_channel import NoThread
from open_channel.io.background import background_loop
from open_channel.sync import Channel
from tests.channel.programs import Programs
from tests.processes import wait_for
from tests.sync.listeners import echo

DEADLINE = 20.0

_T = TypeVar("_T")


def there(function: Callable[[], _T]) -> _T:
    """Call something in the library's own thread."""
    done: Future[_T] = Future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    background_loop().call_soon_threadsafe(call)
    return done.result(DEADLINE)


@pytest.mark.parametrize(
    "use",
    [
        lambda channel: channel.request("t", b"", timeout=1),
        lambda channel: channel.publish("t", b"", confirm=True),
        lambda channel: channel.flush(),
        lambda channel: channel.members,
        lambda channel: channel.connect(),
        lambda channel: channel.subscribe("t").__enter__(),
    ],
)
def test_what_would_wait_for_itself_is_refused(
    join: Callable[..., Channel], use: Callable[[Channel], object]
):
    channel = join()
    with pytest.raises(NoThread, match="would wait for itself"):
        there(lambda: use(channel))
    with channel.serve("t", lambda request: request.data):
        assert channel.request("t", b"still here", timeout=DEADLINE) == b"still here"


def test_what_need_not_wait_is_done(join: Callable[..., Channel]):
    channel = join()
    with channel.subscribe("t") as messages:
        there(lambda: channel.publish("t", b"1"))
        there(lambda: channel.publish_nowait("t", b"2"))
        assert [messages.get(DEADLINE).body for _ in range(2)] == [b"1", b"2"]


def test_a_channel_is_closed_by_another_thread(join: Callable[..., Channel]):
    channel, other = join(), join()
    there(channel.close)
    wait_for(lambda: channel.state == "closed" and len(other.members) == 1, "it has left")


@pytest.mark.parametrize("end", ["close", "destroy"])
def test_a_socket_is_closed_by_another_thread(opened: Callable[..., Channel], end: str):
    socket = opened("own", echo).connect()
    socket.write(b"x")
    assert socket.read(DEADLINE) == b"x"
    there(getattr(socket, end))
    wait_for(lambda: socket.closed, "it is closed")


def test_blocks_are_left(join: Callable[..., Channel]):
    channel = join()
    threads = threading.active_count()
    messages, service = channel.subscribe("t"), channel.serve("u", lambda request: b"")
    with messages, service:
        there(lambda: messages.__exit__(None, None, None))
        there(lambda: service.__exit__(None, None, None))
        wait_for(lambda: messages._inner.at_end, "the subscription is over")
    wait_for(lambda: threading.active_count() == threads, "no thread is left")


def test_finalizers_that_the_collector_runs_there_stop_nothing(run: Programs):
    program = run(
        """
        import gc, threading
        from open_channel import NoThread
        from open_channel.sync import open_channel

        ran = set()

        class Cycle:
            def __init__(self, channel):
                self.itself, self.channel = self, channel

            def __del__(self):
                ran.add(threading.current_thread().name)
                try:
                    self.channel.request("nobody", b"", timeout=1)
                except NoThread:
                    ran.add("refused")
                except Exception:
                    pass
                self.channel.close()

        gc.set_threshold(20)
        with open_channel("own") as channel, channel.serve("echo", lambda request: request.data):
            for number in range(400):
                Cycle(open_channel(f"other-{number % 3}"))
                assert channel.request("echo", [number], timeout=20) == [number]
                if "refused" in ran:
                    break
        print(sorted(ran)[-1])
        """
    )
    assert program.line() == "refused"
    assert program.wait_end() == 0
