"""The blocking bus and forks: a child is a new member, and what it inherits stays the parent's."""

from __future__ import annotations

import os
from collections.abc import Callable

from open_channel.sync import Channel
from tests.channel.programs import Programs

Join = Callable[..., Channel]

DEADLINE = 20.0


def ended_well(program) -> None:
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_a_child_publishes_and_asks_as_a_new_member(join: Join, run: Programs):
    shop = join()
    with shop.subscribe("t") as messages, shop.serve("double", lambda request: request.data * 2):
        program = run(
            """
            import os
            from open_channel.sync import open_channel

            with open_channel("shop", hosts=False, labels={"kind": "forks"}) as shop:
                shop.publish("t", "parent", confirm=True)
                member = shop.member
                child = os.fork()
                if not child:
                    shop.publish("t", "child", confirm=True)
                    assert shop.member != member
                    assert shop.request("double", 4) == 8
                    assert {m.pid for m in shop.members} >= {os.getpid(), os.getppid()}
                    with shop.lock("l"), shop.subscribe("own") as own:
                        shop.publish("own", 1)
                        assert own.get(10).data == 1
                    shop.close()
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                assert shop.member == member
                shop.publish("t", "parent again", confirm=True)
            """
        )
        ended_well(program)
        received = [messages.get(DEADLINE) for _ in range(3)]
    assert [message.data for message in received] == ["parent", "child", "parent again"]
    assert received[0].sender == received[2].sender != received[1].sender


def test_a_child_in_another_working_directory_meets_its_parent(run: Programs):
    program = run(
        """
        import os
        from open_channel.sync import open_channel

        os.chdir(os.environ["OPEN_CHANNEL_DIR"])
        os.mkdir("elsewhere")
        with open_channel("shop", directory="here") as shop:
            child = os.fork()
            if not child:
                os.chdir("elsewhere")
                shop.publish("t", "child", confirm=True)
                assert {m.pid for m in shop.members} == {os.getpid(), os.getppid()}
                shop.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        """
    )
    ended_well(program)


def test_what_a_child_inherits_is_refused_and_stays_the_parents(join: Join, run: Programs):
    shop = join()
    program = run(
        """
        import os
        from open_channel import ChannelForked
        from open_channel.sync import open_channel

        def refused(use):
            try:
                use()
            except ChannelForked:
                return True
            return False

        shop = open_channel("shop", hosts=False)
        with (
            shop.subscribe("t") as messages,
            shop.subscribe("jobs", group="g") as jobs,
            shop.serve("pid", lambda request: os.getpid()),
        ):
            changes = shop.watch_members()
            print("ready", flush=True)
            job = jobs.get(10)
            first = messages.get(10)
            child = os.fork()
            if not child:
                for use in (
                    messages.get, messages.take, lambda: next(messages), lambda: next(iter(jobs)),
                    lambda: next(messages.batches()), job.ack, job.reject, changes.get,
                    lambda: next(changes), messages.__enter__,
                ):
                    assert refused(use), use
                changes.close()
            else:
                assert os.waitpid(child, 0)[1] == 0
                assert [messages.get(10).data for _ in range(9)] == list(range(1, 10))
                job.ack()
                assert jobs.get(10).data == "second"
        if not child:
            assert shop.request("pid") == os.getppid()
            os._exit(0)
        shop.close()
        """
    )
    assert program.line() == "ready"
    for number in range(10):
        shop.publish("t", number)
    shop.publish("jobs", "first")
    shop.publish("jobs", "second")
    ended_well(program)


def test_a_child_does_not_hold_what_its_killed_parent_hosted(join: Join, run: Programs):
    program = run(
        """
        import os, threading
        from open_channel.sync import open_channel
        shop = open_channel("shop")
        shop.publish("t", 1, confirm=True)
        if not os.fork():
            print("child", flush=True)
        threading.Event().wait(60)
        """
    )
    assert program.line() == "child"
    shop = join()
    assert {member.pid for member in shop.members if member.hosting} == {program.pid}
    program.kill()
    with shop.subscribe("t") as messages:
        shop.publish("t", 2, confirm=True, timeout=DEADLINE)
        assert messages.get(DEADLINE).data == 2
    assert [member.pid for member in shop.members if member.hosting] == [os.getpid()]


def test_children_forked_under_load_inherit_no_lock_and_no_message(join: Join, run: Programs):
    with join().subscribe("t", queue=10**9) as messages:
        program = run(
            """
            import faulthandler, os, sys, threading
            from open_channel.sync import open_channel

            sys.setswitchinterval(1e-6)
            shop = open_channel("shop", hosts=False)
            shop.publish("t", -1)
            stop = threading.Event()

            def publish():
                while not stop.is_set():
                    shop.publish("t", b"parent")

            def work():
                for job in jobs:
                    shop.publish("jobs", job.data)

            with shop.subscribe("jobs", group="g") as jobs:
                shop.publish("jobs", 1)
                threads = [threading.Thread(target=work) for work in (publish, publish, work)]
                for thread in threads:
                    thread.start()
                for number in range(20):
                    child = os.fork()
                    if not child:
                        faulthandler.dump_traceback_later(10, exit=True)
                        shop.publish("t", number, confirm=True, timeout=10)
                        shop.close()
                        os._exit(0)
                    assert os.waitpid(child, 0)[1] == 0
                stop.set()
            for thread in threads:
                thread.join()
            shop.close()
            """
        )
        ended_well(program)
        numbers: dict[str, list[int]] = {}
        while (message := messages.take()) is not None:
            if message.body != b"parent":
                numbers.setdefault(message.sender, []).append(message.data)
    assert sorted(numbers.values()) == [[number] for number in range(-1, 20)]
