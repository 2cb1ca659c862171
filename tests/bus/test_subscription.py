"""What happens in the midst of a taking: by a signal handler, and by the loop meanwhile.

Python calls handlers where it calls functions and returns from them, in the main thread. There a
profile function does what a handler would, and at each such place once.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from open_channel import Batch, Job, JobLost, Limits, Subscription
from open_channel.bus.hands import Hand
from open_channel.bus.message import OBJECT

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLISHER = b"p" * 16
SIZE = 8 + OBJECT  # of one message, where it waits


class Broker:
    """What a subscription is given, as if it came; and what it has taken of that."""

    def __init__(self, **options: Any) -> None:
        self.told: list[Any] = []
        core = SimpleNamespace(
            done=lambda _, *key: self.told.append((*key, True)),
            reject=lambda _, *key: self.told.append((*key, False)),
            unsubscribe=lambda *_: None,
        )
        client: Any = SimpleNamespace(core=core, limits=Limits(), error=None, missed=0, name="shop")
        client.subscribe = lambda make: make(1)
        client.when_ended = lambda _: lambda: None
        self.left: list[Callable[[], None]] = []
        client.run = self.left.append
        client.check_open = client.schedule = client.has_room = lambda: None
        client.touched = lambda _: None
        self.numbers = count()
        self.taken: list[int] = []
        self.missed = 0
        self.subscription = Subscription[Any](lambda: client, "t", **options)
        self.subscription.begin()
        self.subscription.live()

    def _publication(self) -> Any:
        return SimpleNamespace(sender=PUBLISHER, flags=0, topic="t", record=b"", last=1)

    def messages(self, length: int) -> None:
        bodies = [b"%08d" % next(self.numbers) for _ in range(length)]
        publication = self._publication()
        publication.record = b"".join(bodies)
        self.subscription.deliver(publication, bodies)

    def mixed(self, topics: str) -> None:
        bodies = [b"%08d" % next(self.numbers) for _ in topics]
        self.subscription.deliver_mixed(self._publication(), list(topics), bodies)

    def job(self, number: int) -> None:
        self.subscription.job(self._publication(), number, b"", False)

    @staticmethod
    def several(*calls: Callable[[], object]) -> None:
        for call in calls:
            call()

    def take(self) -> bool:
        message = self.subscription.take()
        if message is not None:
            self.missed += message.missed
            self.taken.append(int(message.body))
        return message is not None

    def take_batch(self) -> bool:
        batch: Batch | None = self.subscription.take_batch()
        if batch is not None:
            self.missed += batch.missed
            self.taken += map(int, batch.bodies)
        return batch is not None


def in_the_midst(call: Callable[[], object], place: int, do: Callable[[], object]) -> bool:
    """Do something at one place of what is called; False when there are not so many."""
    places = count()
    done = False

    def profile(_: object, event: str, __: object) -> None:
        nonlocal done
        if event in {"call", "c_return", "return"} and next(places) == place:
            sys.setprofile(None)
            done = True
            do()

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(before)
    return done


def elsewhere(do: Callable[[], object]) -> Callable[[], None]:
    """In another thread, as the loop does it; this one waits for that."""

    def in_thread() -> None:
        thread = threading.Thread(target=do, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()

    return in_thread


WAYS = ["take", "take_batch"]


@pytest.mark.parametrize("inner", [*WAYS, "both"])
@pytest.mark.parametrize("outer", WAYS)
@pytest.mark.parametrize("begun", [0, 2, 3, 5])
def test_a_handler_takes_in_the_midst_of_a_taking(outer: str, inner: str, begun: int):
    place, goes_on = 0, True
    while goes_on:
        broker = Broker()
        for _ in range(2):
            broker.messages(3)
            broker.mixed("aabc")
            broker.messages(1)
        for _ in range(begun):
            broker.take()
        ways = WAYS if inner == "both" else [inner]
        do = partial(broker.several, *[getattr(broker, way) for way in ways] * 3)
        goes_on = in_the_midst(getattr(broker, outer), place, do)
        while broker.take() or broker.take_batch():
            pass
        assert sorted(broker.taken) == list(range(16)), place
        assert (broker.missed, broker.subscription.backlog) == (0, 0)
        place += 1
    assert place > 5


@pytest.mark.parametrize("outer", WAYS)
@pytest.mark.parametrize("begun", [0, 1])
def test_what_comes_in_the_midst_of_a_taking_waits_for_nobody(outer: str, begun: int):
    """And what was dropped is told, before the very message that follows it."""
    place, goes_on = 0, True
    while goes_on:
        broker = Broker(queue=4 * SIZE)
        for _ in range(2):
            broker.messages(2)
        for _ in range(begun):
            broker.take()
        more = elsewhere(partial(broker.several, *[partial(broker.messages, 2)] * 4))
        goes_on = in_the_midst(getattr(broker, outer), place, more)
        broker.messages(2)
        assert broker.subscription.backlog <= 4 * SIZE
        expected = broker.taken[-1] + 1 if broker.taken else 0
        while (message := broker.subscription.take()) is not None:
            assert int(message.body) == expected + message.missed, place
            expected = int(message.body) + 1
            broker.taken.append(int(message.body))
        assert expected == len(broker.taken) + broker.subscription.missed
        assert expected == 6 + 8 * goes_on
        place += 1
    assert place > 5


def test_a_taking_that_takes_long_bounds_the_queue_as_well():
    broker = Broker(queue=0)
    limit = broker.subscription._client.limits.window
    broker.messages(1)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with broker.subscription._lock:
            held.set()
            go_on.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    for _ in range(limit // SIZE // 1000 + 10):
        broker.messages(1000)
    go_on.set()
    thread.join()
    assert limit < broker.subscription.backlog < limit + 1001 * SIZE
    while broker.take():
        pass
    kept = len(broker.taken)
    assert broker.taken == list(range(kept))
    assert not broker.missed
    broker.messages(1)
    broker.take()
    assert broker.missed == broker.taken[-1] - kept == broker.subscription.missed > 0


class Jobs(Broker):
    """Two jobs, of which the first was taken."""

    def __init__(self) -> None:
        super().__init__(group="g", ack="manual")
        self.hand = Hand()
        self.jobs: list[Job] = []
        self.lost = False
        for number in range(2):
            self.job(number)
        self.get()
        self.first = self.jobs[0]

    def get(self) -> None:
        job = self.subscription.take(self.hand)
        if job is not None:
            self.jobs.append(job)

    def ack(self) -> None:
        try:
            self.first.ack()
        except JobLost:
            self.lost = True

    def lose(self) -> None:
        self.subscription.lost(PUBLISHER, 0)

    def come_again(self) -> None:
        self.lose()
        self.job(0)

    def acknowledged(self, number: int) -> int:
        self.several(*self.left)  # the loop comes to it
        self.left.clear()
        return self.told.count((PUBLISHER, number, True))


@pytest.mark.parametrize("what", ["ack", "get", "lose", "come_again", "end"])
@pytest.mark.parametrize("outer", ["get", "ack"])
def test_a_job_has_one_taker_and_one_end(outer: str, what: str):
    place, goes_on = 0, True
    while goes_on:
        jobs = Jobs()
        do = jobs.subscription.end if what == "end" else getattr(jobs, what)
        if what not in {"ack", "get"}:
            do = elsewhere(do)
        goes_on = in_the_midst(getattr(jobs, outer), place, do)
        jobs.get()
        jobs.get()
        numbers = [job.number for job in jobs.jobs]
        assert numbers == ([0, 1, 0] if what == "come_again" else [0, 1])[: len(numbers)], place
        assert len(numbers) >= (1 if what == "end" else 2)
        assert jobs.acknowledged(0) <= 1
        if outer == "ack":
            assert jobs.lost or jobs.acknowledged(0)
            assert not jobs.lost or jobs.first.lost
        if (
            what == "come_again" and goes_on
        ):  # its end is not touched by what became of the job before
            before = jobs.acknowledged(0)
            jobs.jobs[2].ack()
            assert jobs.acknowledged(0) == before + 1
        place += 1
    assert place > 3
