"""What only the blocking bus has: timeouts of each call, threads, and Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

import open_channel
from open_channel import (
    ChannelClosed,
    Job,
    Limits,
    MemberChange,
    Message,
    OutboxFull,
    ResponderError,
    WaitTimeout,
)
from open_channel.sync import Channel, MemberChanges, Subscription
from tests.channel.programs import Programs
from tests.processes import wait_for

Join = Callable[..., Channel]

DEADLINE = 20.0


# --- timeouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_get_gives_up_after_its_timeout_and_loses_nothing(join: Join, timeout: float):
    shop = join()
    with shop.subscribe("t") as subscription:
        before = time.monotonic()
        with pytest.raises(WaitTimeout) as caught:
            subscription.get(timeout)
        assert timeout * 0.9 <= time.monotonic() - before < timeout + 2
        assert (caught.value.what, caught.value.timeout) == ("a message to t", timeout)
        shop.publish("t", "late")
        assert subscription.get(DEADLINE).data == "late"


def test_many_gets_with_tiny_timeouts_lose_nothing(join: Join):
    shop = join()
    numbers: list[int] = []
    with shop.subscribe("t") as subscription:
        for number in range(500):
            shop.publish("t", number)
        while len(numbers) < 500:
            try:
                numbers.append(subscription.get(1e-5).data)
            except WaitTimeout:
                continue
    assert numbers == list(range(500))


def test_publish_and_flush_give_up_after_their_timeouts(join: Join):
    shop = join(limits=Limits(drain=50_000, outbox=10_000_000))
    slow = join(hosts=False)
    with slow.subscribe("t", overflow="block", queue=1000) as subscription:
        accepted = 0

        def publish_all() -> None:
            nonlocal accepted
            while True:
                shop.publish("t", b"%d " % accepted + bytes(10_000), timeout=0.1)
                accepted += 1

        with pytest.raises(WaitTimeout) as caught:
            publish_all()
        assert caught.value.what == "room in the outbox"
        with pytest.raises(WaitTimeout) as caught:
            shop.flush(timeout=0.05)
        assert "confirmation" in caught.value.what
        # Nothing of the refused message was published; the rest is there.
        numbers = [int(subscription.get(DEADLINE).body.split()[0]) for _ in range(accepted)]
        assert numbers == list(range(accepted))
        assert shop.flush(DEADLINE) == ()
        assert subscription.take() is None


def test_a_publish_that_waits_goes_on_when_there_is_room(join: Join):
    shop = join(limits=Limits(drain=50_000))
    slow = join(hosts=False)
    published: list[int] = []

    def publish() -> None:
        for number in range(200):
            shop.publish("t", bytes(10_000))
            published.append(number)

    with slow.subscribe("t", overflow="block", queue=1000) as subscription:
        publishing = threading.Thread(target=publish)
        publishing.start()
        for _ in range(200):
            subscription.get(DEADLINE)
        publishing.join(DEADLINE)
    assert len(published) == 200


def test_publish_nowait_never_waits_and_refuses_when_full(join: Join):
    shop = join(limits=Limits(window=4096, drain=4096, outbox=500_000))
    slow = join(hosts=False)

    def publish_all() -> None:
        while True:
            shop.publish_nowait("t", bytes(5000))

    with slow.subscribe("t", overflow="block", queue=1000):
        for _ in range(3):
            with pytest.raises(OutboxFull) as caught:
                publish_all()
            assert 400_000 < caught.value.size <= caught.value.limit == 500_000


def test_watching_has_a_timeout_and_an_end(join: Join):
    shop = join()
    changes = shop.watch_members()
    with pytest.raises(WaitTimeout):
        changes.get(0.01)
    with join() as other:
        change = next(changes)
        assert (change.kind, change.member.id) == ("joined", other.member)
    assert next(changes).kind == "left"
    changes.close()
    assert list(changes) == []
    with pytest.raises(ChannelClosed):
        changes.get(DEADLINE)
    with shop.watch_members() as others:
        shop.close()
        assert list(others) == []


def test_threads_that_watch_share_the_changes_and_end(join: Join):
    shop = join()
    seen: list[MemberChange] = []

    def watch(changes: MemberChanges) -> None:
        for change in changes:
            seen.append(change)

    with ThreadPoolExecutor() as pool:
        with shop.watch_members() as changes:
            waiting = [pool.submit(watch, changes) for _ in range(3)]
            with join(hosts=False):
                wait_for(lambda: len(seen) == 1, "it has joined")
            wait_for(lambda: len(seen) == 2, "it has left")
            assert repr(changes) == "<sync <MemberChanges 'shop', 0 to take>>"
        for thread in waiting:
            thread.result(DEADLINE)
    assert [change.kind for change in seen] == ["joined", "left"]
    assert repr(changes) == "<sync <MemberChanges 'shop', 0 to take, ended>>"


@pytest.mark.parametrize("end", ["close", "__del__"])
def test_watching_leaves_nothing_behind(join: Join, end: str):
    shop = join()
    watches: set[Any] = shop._join().client.watches
    changes = shop.watch_members()
    assert len(watches) == 1
    if end == "close":
        changes.close()
    else:
        del changes
    wait_for(lambda: gc.collect() is not None and not watches, "nobody is told any more")


# --- threads --------------------------------------------------------------------------------------


def test_threads_publish_and_take_together(join: Join, eager_switching: None):
    # Seven threads that give each other no time: who has none for a second is not out of touch.
    limits = Limits(lag=DEADLINE)
    shop, other = join(limits=limits), join(limits=limits, hosts=False)
    seen: list[Message] = []

    def publish(name: int) -> None:
        for number in range(2000):
            shop.publish(f"t.{name}", number)

    def take(subscription: Subscription) -> None:
        mine: list[Message] = list(subscription)
        seen.extend(mine)

    with other.subscribe("t.*") as subscription:
        takers = [threading.Thread(target=take, args=[subscription]) for _ in range(3)]
        publishers = [threading.Thread(target=publish, args=[name]) for name in range(3)]
        for thread in takers + publishers:
            thread.start()
        for thread in publishers:
            thread.join(DEADLINE)
        assert shop.flush(DEADLINE) == ()
    for thread in takers:
        thread.join(DEADLINE)
    for name in range(3):
        numbers = [message.data for message in seen if message.topic == f"t.{name}"]
        assert sorted(numbers) == list(range(2000))


def test_jobs_are_finished_in_any_thread(join: Join, eager_switching: None):
    shop, other = join(), join(hosts=False)
    done: list[int] = []

    def finish(job: Message) -> None:
        assert isinstance(job, Job)
        if job.data % 10 == 0 and not job.redelivered:
            job.reject()
        else:
            done.append(job.data)
            job.ack()

    def work(jobs: Subscription) -> None:
        for job in jobs:
            finishers.submit(finish, job).result(DEADLINE)

    with (
        ThreadPoolExecutor(4) as workers,
        ThreadPoolExecutor(4) as finishers,
        other.subscribe("jobs", group="g", prefetch=50) as jobs,
    ):
        working = [workers.submit(work, jobs) for _ in range(4)]
        for number in range(500):
            shop.publish("jobs", number)
        assert shop.flush(DEADLINE) == ()
        shop.close()
        other.close()
        for future in working:
            future.result(DEADLINE)
    assert sorted(done) == list(range(500))


def test_one_thread_takes_jobs_for_a_pool(join: Join):
    """Asking for more does not make one done; what is left when it leaves goes to others."""
    shop, other = join(), join(hosts=False)
    begun, go_on = threading.Semaphore(0), threading.Event()
    done: list[int] = []

    def work(job: Job) -> None:
        begun.release()
        assert go_on.wait(DEADLINE)
        done.append(job.data)
        job.ack()

    with ThreadPoolExecutor(3) as pool, ExitStack() as consumer:
        jobs = consumer.enter_context(shop.subscribe("jobs", group="g", ack="manual", prefetch=3))
        for number in range(9):
            shop.publish("jobs", number)
        working = [pool.submit(work, jobs.get(DEADLINE)) for _ in range(3)]
        for _ in range(3):
            assert begun.acquire(timeout=DEADLINE)
        with pytest.raises(WaitTimeout):
            jobs.get(0.05)  # three are in hand
        go_on.set()
        working += [pool.submit(work, jobs.get(DEADLINE)) for _ in range(3)]
        for future in working:
            future.result(DEADLINE)
        assert jobs.get(DEADLINE).data == 6
        with other.subscribe("jobs", group="g") as more:
            consumer.close()
            assert sorted(more.get(DEADLINE).data for _ in range(3)) == [6, 7, 8]
    assert sorted(done) == list(range(6))


def test_each_thread_has_its_own_job_in_hand(join: Join):
    shop = join()
    with shop.subscribe("jobs", group="g") as jobs:
        for number in range(3):
            shop.publish("jobs", number)
        first = jobs.get(DEADLINE)
        assert isinstance(first, Job)
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(jobs.get, DEADLINE).result()
            third = pool.submit(jobs.get, DEADLINE).result()
            first.reject()  # which asking in the other thread has not made done
            assert pool.submit(jobs.get, DEADLINE).result().data == first.data
        assert {first.data, second.data, third.data} == {0, 1, 2}


def test_handlers_run_in_a_bounded_number_of_threads_that_are_used_again(join: Join):
    shop, other = join(), join()
    threads: set[threading.Thread] = set()
    together = threading.Barrier(3)

    def handler(request: Message) -> int:
        threads.add(threading.current_thread())
        if request.data == "meet":
            together.wait(DEADLINE)
        return 1

    with (
        ThreadPoolExecutor(10) as pool,
        other.serve("t", handler, concurrency=3),
    ):
        for _ in range(50):
            assert shop.request("t") == 1
        assert len(threads) == 1
        assert sum(pool.map(lambda _: shop.request("t", "meet"), range(9))) == 9
        assert len(threads) == 3
        # To all: the bound holds for them too.
        assert len(list(pool.map(lambda _: shop.request_all("t", "meet"), range(9)))) == 9
        assert len(threads) == 3
    wait_for(lambda: not any(thread.is_alive() for thread in threads), "the end of the threads")


@pytest.mark.parametrize("error", [SystemExit, StopIteration, KeyboardInterrupt])
def test_what_is_no_error_of_a_handler_is_told_as_one(join: Join, error: type[BaseException]):
    shop = join()

    def handler(request: Message) -> None:
        raise error("stop")

    with shop.serve("t", handler):
        with pytest.raises(ResponderError, match=error.__name__):
            shop.request("t")
        with pytest.raises(ResponderError, match=error.__name__):
            shop.request("t")


def test_a_handler_may_use_the_channel(join: Join):
    shop = join()

    def outer(request: Message) -> Any:
        shop.publish("log", request.data)
        return shop.request("inner", request.data)

    with (
        shop.subscribe("log") as log,
        shop.serve("outer", outer),
        shop.serve("inner", lambda request: request.data + 1),
    ):
        assert shop.request("outer", 1) == 2
        assert log.take() is not None


async def no_plain_function(request: Message) -> None:
    pass


def test_a_coroutine_function_is_no_handler(join: Join):
    with pytest.raises(TypeError, match="plain function"):
        join().serve("t", no_plain_function)


async def test_both_apis_meet_and_the_blocking_one_works_in_a_running_loop(join: Join):
    shop = join()
    async with open_channel.open_channel("shop") as other:
        async with other.subscribe("t") as subscription:
            assert shop.publish("t", 1) == ()
            assert (await subscription.get()).data == 1
        with shop.serve("double", lambda request: request.data * 2):
            assert await other.request("double", 4) == 8
        async with other.serve("triple", lambda request: request.data * 3):
            assert await asyncio.to_thread(shop.request, "triple", 4) == 12


def test_without_a_block_the_first_use_joins(opened: Join):
    shop, other = opened("shop"), opened("shop", labels={"a": "b"})
    with shop.subscribe("t") as subscription:
        other.publish("t", 1, confirm=True)
        assert subscription.get(DEADLINE).data == 1
    assert [member.labels for member in shop.members if member.labels] == [{"a": "b"}]
    other.close()
    other.close()
    with pytest.raises(ChannelClosed):
        other.publish("t")
    with pytest.raises(ChannelClosed):
        other.lock("l")


# --- the main thread ------------------------------------------------------------------------------


def test_ctrl_c_ends_a_wait_and_frees_what_it_held(run: Programs):
    program = run(
        """
        import signal, threading
        from open_channel.sync import open_channel

        def waits(request):
            if request.data == "wait":
                interrupt_soon()
                go_on.wait()
            return "done"

        def interrupt_soon():
            main = threading.main_thread().ident
            threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGINT]).start()

        def interrupted(wait):
            try:
                wait()
            except KeyboardInterrupt:
                return True

        go_on = threading.Event()
        with open_channel("shop") as shop, shop.serve("slow", waits, concurrency=1):
            assert interrupted(lambda: shop.request("slow", "wait", timeout=None))
            with shop.subscribe("t") as subscription, shop.watch_members() as changes:
                interrupt_soon()
                assert interrupted(subscription.get)
                interrupt_soon()
                assert interrupted(changes.get)
                go_on.set()
                assert shop.request("slow", timeout=10) == "done"
                shop.publish("t", 1)
                assert subscription.get(10).data == 1
                assert shop.flush(10) == ()
            assert shop.stats().unacknowledged == 0
        """
    )
    assert program.wait_end() == 0, program.errors()
    assert program.errors() == ""


def test_a_process_that_exits_without_close_delivers_what_it_published(join: Join, run: Programs):
    with join().subscribe("t") as subscription:
        program = run(
            """
            from open_channel.sync import open_channel
            shop = open_channel("shop", hosts=False)
            for number in range(2000):
                shop.publish("t", number)
            """
        )
        assert [subscription.get(DEADLINE).data for _ in range(2000)] == list(range(2000))
        assert program.wait_end() == 0
        assert program.errors() == ""


def test_a_process_exits_though_a_handler_waits(run: Programs):
    program = run(
        """
        import threading
        from open_channel.sync import open_channel
        shop = open_channel("shop")
        asked = threading.Event()
        def waits(request):
            asked.set()
            threading.Event().wait()
        shop.serve("slow", waits).__enter__()
        threading.Thread(target=shop.request, args=["slow"], daemon=True).start()
        asked.wait()
        """
    )
    assert program.wait_end() == 0


def test_what_came_before_the_end_is_taken_though_both_came_in_the_midst_of_a_taking(join: Join):
    channel = join()
    with channel.subscribe("news") as news:
        inner = news._inner
        take = inner.take

        def take_and_be_interrupted(hand: Any = None) -> Any:
            message = take(hand)
            inner.take = take  # type: ignore[method-assign]
            channel.publish("news", b"the last", confirm=True)
            assert news._bus is not None
            news._bus.call(inner.end)
            return message

        inner.take = take_and_be_interrupted  # type: ignore[method-assign]
        assert news.get(DEADLINE).body == b"the last"
        with pytest.raises(ChannelClosed):
            news.get(DEADLINE)
