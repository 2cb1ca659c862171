"""The blocking API and the life of processes: forks, exits, hosts that are killed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from open_channel.sync import Channel, ChannelSocket
from tests.channel.programs import Programs
from tests.processes import wait_for
from tests.sync.listeners import echo

Opened = Callable[..., Channel]

DEADLINE = 20.0


class Record:
    """A listener that keeps what it receives, by the sender's process id."""

    def __init__(self) -> None:
        self.received: dict[int, list[bytes]] = {}
        self.members: set[str] = set()

    def __call__(self, socket: ChannelSocket) -> None:
        assert socket.peer is not None
        self.members.add(socket.peer.member)
        messages = self.received.setdefault(socket.peer.pid, [])
        for message in socket:
            messages.append(message)
            socket.write(message)


# --- the end of a process -------------------------------------------------------------------------


def test_a_process_that_exits_without_close_delivers_what_it_wrote(opened: Opened, run: Programs):
    record = Record()
    opened("exit", record).connect()
    program = run(
        """
        from open_channel.sync import open_channel
        socket = open_channel("exit").connect()
        for number in range(1000):
            socket.write(b"%d" % number)
        """
    )
    assert program.wait_end() == 0
    assert program.errors() == ""
    assert record.received[program.pid] == [b"%d" % number for number in range(1000)]


def test_a_process_that_exits_waits_for_a_listener_that_takes_its_time(
    opened: Opened, run: Programs
):
    received: list[bytes] = []

    def slow(socket: ChannelSocket) -> None:
        for message in socket:
            time.sleep(0.4)
            received.append(message)

    opened("slow", slow).connect()
    program = run(
        """
        from open_channel.sync import open_channel
        socket = open_channel("slow").connect()
        for number in range(5):
            socket.write(b"%d" % number)
        """
    )
    assert program.wait_end() == 0
    assert program.errors() == ""
    assert received[:4] == [b"%d" % number for number in range(4)]  # the last may be in hand


def test_a_process_that_fails_delivers_what_it_wrote(opened: Opened, run: Programs):
    record = Record()
    opened("exit", record).connect()
    program = run(
        """
        from open_channel.sync import open_channel
        open_channel("exit").connect().write(b"last words")
        raise SystemExit(3)
        """
    )
    assert program.wait_end() == 3
    assert record.received[program.pid] == [b"last words"]


def test_a_process_exits_though_threads_wait_and_nobody_hosts(run: Programs):
    program = run(
        """
        import threading, time
        from open_channel.sync import open_channel
        socket = open_channel("nobody").connect(timeout=None)
        socket.write(b"never delivered")
        threading.Thread(target=socket.read, daemon=True).start()
        print(time.monotonic())
        """
    )
    program.line()
    assert program.wait_end() == 0
    assert program.errors() == ""


def test_what_channels_have_to_deliver_at_the_end_they_wait_for_together(run: Programs):
    program = run(
        """
        import threading, time
        from open_channel.sync import open_channel
        def listener(socket):
            for message in socket:
                threading.Event().wait()
        kept = []
        for number in range(4):
            channel = open_channel(f"many {number}", listener)
            channel.connect().write(b"never read")
            jobs = channel.subscribe("jobs", group="g").__enter__()
            channel.publish("jobs", b"never done")
            kept.append((channel, jobs, jobs.get()))
        print(time.monotonic())
        """
    )
    begun = float(program.line())
    assert program.wait_end() == 0
    assert program.errors() == ""
    assert 5 <= time.monotonic() - begun < 14  # and not 5 or 12 for each


def test_what_some_channels_deliver_while_others_wait_in_vain_arrives(
    opened: Opened, run: Programs
):
    here = opened("delivers")
    with here.subscribe("news") as news:
        program = run(
            """
            from open_channel.sync import open_channel
            kept = []
            for name in ("waits", "delivers", "waits too"):
                channel = open_channel(name, hosts=name != "delivers")
                jobs = channel.subscribe("jobs", group="g").__enter__()
                channel.publish("jobs", b"never done")
                kept.append((channel, jobs, jobs.get()))
            for number in range(5000):
                kept[1][0].publish("news", number)
            """
        )
        assert [news.get(DEADLINE).data for _ in range(5000)] == list(range(5000))
        assert program.wait_end() == 0
        assert program.errors() == ""


def test_none_of_those_that_end_together_becomes_the_host_of_another(run: Programs):
    # Python 3.12.1 starts no thread any more by then, which a host needs.
    program = run(
        """
        from open_channel.sync import open_channel
        channels = [open_channel("together") for _ in range(4)]
        jobs = channels[2].subscribe("jobs", group="g").__enter__()
        for channel in channels:
            channel.publish("jobs", b"never done")
        channels[0].publish("news", b"")
        kept = jobs.get()
        """
    )
    assert program.wait_end() == 0
    assert program.errors() == ""


def test_a_host_that_exits_hands_over(opened: Opened, run: Programs):
    program = run(
        """
        import sys
        from open_channel.sync import open_channel
        def listener(socket):
            for message in socket:
                socket.write(message)
        channel = open_channel("leaves", listener)
        channel.connect().wait_connected()
        print("hosts" if channel.hosting else "waits")
        sys.stdin.readline()
        """
    )
    assert program.line() == "hosts"
    channel = opened("leaves", echo)
    socket = channel.connect()
    for number in range(500):
        socket.write(b"%d" % number)
        if number == 250:
            program.send("leave")
    assert [socket.read(DEADLINE) for _ in range(500)] == [b"%d" % n for n in range(500)]
    assert program.wait_end() == 0
    assert program.errors() == ""
    wait_for(lambda: channel.hosting, "the takeover")


def test_who_comes_while_the_host_exits_goes_on_with_the_next(opened: Opened, run: Programs):
    # Python 3.12.1 starts no thread any more by then: its listener never gets to see the client.
    program = run(
        """
        import atexit, sys
        from open_channel.sync import open_channel
        def listener(socket):
            for message in socket:
                socket.write(message)
        channel = open_channel("late", listener)
        channel.connect().wait_connected()
        print("hosts" if channel.hosting else "waits")
        @atexit.register
        def linger():
            print("exits")
            sys.stdin.readline()
        """
    )
    assert program.line() == "hosts"
    assert program.line() == "exits"
    channel = opened("late", echo)
    socket = channel.connect()
    for number in range(10):
        socket.write(b"%d" % number)
    socket.wait_connected()
    assert not channel.hosting
    program.send("leave")
    assert [socket.read(DEADLINE) for _ in range(10)] == [b"%d" % n for n in range(10)]
    assert program.wait_end() == 0
    assert program.errors() == ""
    socket.write(b"more")
    assert socket.read(DEADLINE) == b"more"
    assert channel.hosting


def test_a_blocking_client_goes_on_when_its_host_is_killed(opened: Opened, run: Programs):
    program = run(
        """
        import threading
        from open_channel.sync import open_channel
        def listener(socket):
            for message in socket:
                if message == b"hold":
                    print("holds")
                    threading.Event().wait()
        channel = open_channel("killed", listener)
        channel.connect().wait_connected()
        print("hosts")
        threading.Event().wait()
        """
    )
    assert program.line() == "hosts"

    def listener(socket: ChannelSocket) -> None:
        for message in socket:
            socket.write(message + b" again" * socket.redelivered)

    channel = opened("killed", listener)
    socket = channel.connect()
    socket.write(b"hold")
    assert program.line() == "holds"
    program.kill()
    assert socket.read(DEADLINE) == b"hold again"
    socket.write(b"new")
    assert socket.read(DEADLINE) == b"new"
    assert channel.hosting


# --- forks ----------------------------------------------------------------------------------------


def test_a_forked_child_is_a_new_member_and_the_parent_goes_on(opened: Opened, run: Programs):
    record = Record()
    opened("fork", record).connect()
    program = run(
        """
        import os
        from open_channel.sync import open_channel

        channel = open_channel("fork")
        socket = channel.connect()
        socket.write(b"parent")
        assert socket.read(10) == b"parent"
        child = os.fork()
        if not child:
            assert channel.connect() is socket
            socket.write(b"child")
            assert socket.read(10) == b"child"
            assert channel.connected
            socket.close()
            print("child", os.getpid())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        socket.write(b"parent again")
        assert socket.read(10) == b"parent again"
        socket.close()
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""
    _, child = program.line().split()
    assert record.received[program.pid] == [b"parent", b"parent again"]
    assert record.received[int(child)] == [b"child"]
    assert len(record.members) == 3


def test_a_parent_that_hosts_goes_on_and_serves_its_child(run: Programs):
    program = run(
        """
        import os
        from open_channel.sync import open_channel

        def listener(socket):
            for message in socket:
                socket.write(b"%d " % os.getpid() + message)

        channel = open_channel("hosts", listener)
        socket = channel.connect()
        socket.wait_connected()
        parent = os.getpid()
        child = os.fork()
        if not child:
            assert not channel.hosting
            socket.write(b"child")
            assert socket.read(10) == b"%d child" % parent
            assert not channel.hosting
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert channel.hosting
        socket.write(b"parent")
        assert socket.read(10) == b"%d parent" % parent
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_forks_in_the_middle_of_a_stream_lose_and_double_nothing(opened: Opened, run: Programs):
    record = Record()
    opened("stream", record).connect()
    program = run(
        """
        import os, threading
        from open_channel.sync import open_channel

        socket = open_channel("stream").connect()

        def write():
            for number in range(5000):
                socket.write(b"%d" % number)

        writer = threading.Thread(target=write)
        writer.start()
        for number in range(5000):
            assert socket.read(10) == b"%d" % number
            if number % 1000 == 500:
                child = os.fork()
                if not child:
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        writer.join()
        socket.close()
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert record.received[program.pid] == [b"%d" % number for number in range(5000)]


def test_a_child_that_lives_on_does_not_hold_what_its_killed_parent_held(
    opened: Opened, run: Programs
):
    program = run(
        """
        import os, time
        from open_channel.sync import open_channel

        def listener(socket):
            for message in socket:
                socket.write(message)

        channel = open_channel("orphan", listener)
        channel.connect().wait_connected()
        if not os.fork():
            print("child", flush=True)
            time.sleep(60)
        time.sleep(60)
        """
    )
    assert program.line() == "child"
    channel = opened("orphan", echo)
    socket = channel.connect()
    socket.wait_connected()
    assert not channel.hosting
    program.kill()
    socket.write(b"hello")
    assert socket.read(DEADLINE) == b"hello"
    assert channel.hosting
    assert socket.peer is not None
    assert socket.peer.pid == os.getpid()


def test_a_child_that_never_used_the_channel_can_close_it(run: Programs):
    program = run(
        """
        import os, sys
        from open_channel import ChannelClosed
        from open_channel.sync import open_channel

        def listener(socket):
            for message in socket:
                socket.write(message)

        channel = open_channel("unused", listener)
        socket = channel.connect()
        socket.wait_connected()
        child = os.fork()
        if not child:
            socket.close()
            channel.close()
            try:
                socket.write(b"closed")
            except ChannelClosed:
                sys.exit(7)  # with the exit handlers, as a child of multiprocessing has not
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        socket.write(b"hello")
        assert socket.read(10) == b"hello"
        assert channel.hosting
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_a_grandchild_is_a_new_member_too(opened: Opened, run: Programs):
    record = Record()
    opened("line", record).connect()
    program = run(
        """
        import os
        from open_channel.sync import open_channel

        socket = open_channel("line").connect()
        for generation in (b"1", b"2", b"3"):
            socket.write(generation)
            assert socket.read(10) == generation
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                break
        os._exit(0)
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert sorted(map(tuple, record.received.values())) == [(), (b"1",), (b"2",), (b"3",)]


def test_the_children_of_multiprocessing_speak_for_themselves(opened: Opened, run: Programs):
    record = Record()
    opened("pool", record).connect()
    program = run(
        """
        import multiprocessing, os
        from open_channel.sync import open_channel

        socket = open_channel("pool").connect()

        def work(number):
            socket.write(b"%d" % number)
            assert socket.read(10) == b"%d" % number
            return os.getpid()

        socket.write(b"parent")
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pool.map(work, range(30), chunksize=1)
        assert socket.read(10) == b"parent"
        """
    )
    assert program.wait_end() == 0, program.errors()
    by_children = [
        message
        for pid, messages in record.received.items()
        if pid not in {program.pid, os.getpid()}
        for message in messages
    ]
    assert sorted(map(int, by_children)) == list(range(30))
    assert record.received[program.pid] == [b"parent"]


@pytest.mark.parametrize("opened_by", ["the parent", "the child"])
def test_a_child_of_multiprocessing_that_returns_delivers_what_it_wrote(
    opened: Opened, run: Programs, opened_by: str
):
    """Such a child skips the interpreter's exit functions."""
    record = Record()
    opened("returns", record).connect()
    program = run(
        """
        import multiprocessing, os, sys
        from open_channel.sync import open_channel

        channel = open_channel("returns")
        if sys.argv[1] == "the parent":
            channel.connect().wait_connected()

        def work():
            socket = channel.connect()
            for number in range(20_000):
                socket.write(b"%d" % number)

        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
        print(child.pid, child.exitcode)
        """,
        opened_by,
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""
    child, status = map(int, program.line().split())
    assert status == 0
    assert record.received[child] == [b"%d" % number for number in range(20_000)]


def test_a_child_of_multiprocessing_that_returns_delivers_what_it_published(
    opened: Opened, run: Programs
):
    with opened("returns") as channel, channel.subscribe("numbers", type=int) as numbers:
        program = run(
            """
            import multiprocessing
            from open_channel.sync import open_channel

            channel = open_channel("returns")
            channel.publish("numbers", -1)

            def work():
                for number in range(5000):
                    channel.publish("numbers", number)

            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
            """
        )
        assert [numbers.get(DEADLINE).data for _ in range(5001)] == list(range(-1, 5000))
        assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_a_host_serves_the_children_that_multiprocessing_waits_for_at_its_end(run: Programs):
    program = run(
        """
        import threading
        from open_channel.sync import open_channel
        import multiprocessing

        def listener(socket):
            for message in socket:
                socket.write(message)

        def work(end):
            socket = channel.connect()
            socket.write(b"first")  # its listener has a thread now: later none may be started
            ready.put(socket.read(10))
            end.get()
            socket.write(b"served")
            print(socket.read(10).decode(), channel.hosting, flush=True)

        channel = open_channel("serves", listener)
        context = multiprocessing.get_context("fork")
        end, ready = context.SimpleQueue(), context.SimpleQueue()
        channel.connect().wait_connected()  # first, so that it hosts
        context.Process(target=work, args=[end]).start()
        ready.get()
        # After the main thread's end, and before the children are joined.
        threading.Thread(target=lambda: (threading.main_thread().join(), end.put(0))).start()
        """
    )
    assert program.line() == "served False"
    assert program.wait_end() == 0
    assert program.errors() == ""


def test_threads_that_use_a_forked_channel_first_at_once_share_its_connection(
    opened: Opened, run: Programs
):
    record = Record()
    opened("threads", record).connect()
    program = run(
        """
        import os, threading, time
        from open_channel.sync import open_channel

        socket = open_channel("threads").connect()
        socket.wait_connected()
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            os._exit(0)

        count = 5
        together = threading.Barrier(count + 1)
        reopen = socket._reopen
        reader = threading.Thread(
            target=lambda: print(*sorted(int(socket.read(10)) for _ in range(count)), flush=True)
        )

        def reopen_together():
            opened = reopen()
            together.wait(10)
            while threading.current_thread() is not reader and not socket._bell._waiting:
                time.sleep(0.001)  # until the reader waits for a message
            return opened

        socket._reopen = reopen_together
        threads = [reader] + [
            threading.Thread(target=socket.write, args=[b"%d" % number]) for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        socket.close()
        os._exit(0)
        """
    )
    assert program.line() == "0 1 2 3 4"
    assert program.wait_end() == 0
    assert program.errors() == ""


def test_children_forked_under_load_do_not_inherit_a_lock(opened: Opened, run: Programs):
    record = Record()
    opened("locks", record).connect()
    program = run(
        """
        import faulthandler, os, sys, threading
        from open_channel.sync import open_channel

        sys.setswitchinterval(1e-6)
        channel = open_channel("locks")
        socket = channel.connect()
        stop = threading.Event()

        def write():
            while not stop.is_set():
                socket.write(b"parent")

        def read():
            for _ in socket:
                pass

        threads = [threading.Thread(target=work) for work in (write, write, read)]
        for thread in threads:
            thread.start()
        for number in range(20):
            child = os.fork()
            if not child:
                faulthandler.dump_traceback_later(10, exit=True)
                socket.write(b"%d" % number)
                assert socket.read(10) == b"%d" % number
                socket.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        socket.destroy()
        for thread in threads:
            thread.join()
        """
    )
    assert program.wait_end() == 0, program.errors()
    by_children = [
        messages
        for pid, messages in record.received.items()
        if pid not in {program.pid, os.getpid()}
    ]
    assert sorted(by_children) == sorted([b"%d" % number] for number in range(20))


def test_a_listener_may_fork(opened: Opened, run: Programs):
    record = Record()
    opened("forks", record).connect()
    program = run(
        """
        import os
        from open_channel.sync import open_channel

        other = open_channel("forks").connect()

        def listener(socket):
            for message in socket:
                child = os.fork()
                if not child:
                    other.write(message)
                    assert other.read(10) == message
                    os._exit(0)
                socket.write(b"%d" % os.waitpid(child, 0)[1])

        socket = open_channel("own", listener).connect()
        for number in range(3):
            socket.write(b"%d" % number)
            assert socket.read(10) == b"0"
        socket.close()
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""
    written = [message for messages in record.received.values() for message in messages]
    assert sorted(written) == [b"0", b"1", b"2"]


def test_nothing_is_imported_in_the_midst_of_something(run: Programs):
    """A fork by another thread would find half of it, and a signal handler wait for it in vain."""
    program = run(
        """
        import sys
        from open_channel.sync import open_channel

        before = set(sys.modules)
        with open_channel("imports", lambda socket: socket.write(socket.read())) as channel:
            socket = channel.connect()
            socket.write(b"x")
            assert socket.read(10) == b"x"
            with (
                channel.subscribe("t") as messages,
                channel.subscribe("t", group="g") as jobs,
                channel.serve("u", lambda request: request.data, type=int),
                channel.lock("l"),
                channel.watch_members() as changes,
            ):
                channel.publish("t", {"a": b"x" * 1_000_000})
                job = jobs.get(10)
                assert messages.get(10).data == job.data
                job.ack()
                channel.flush(10)
                assert channel.request("u", 1, type=int) == 1
                channel.lead("w", lambda: None)
                channel.members, channel.stats(), changes
        print(sorted(set(sys.modules) - before))
        """
    )
    assert program.line() == "[]"
    assert program.wait_end() == 0, program.errors()
