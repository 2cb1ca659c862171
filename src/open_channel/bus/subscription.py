"""Subscriptions: what has arrived for one and was not taken yet, and how it is taken.

What arrives is put in by the loop; ``take()``, ``take_batch()`` and ``finish()`` may be called in
any thread, also by a signal handler in the midst of the same: the loop waits for none of them.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal

from open_channel.arguments import check_count, check_text
from open_channel.bus.core import codec
from open_channel.bus.core.interests import Interest, add_missed
from open_channel.bus.core.subjects import MAX_TOPIC, check_pattern
from open_channel.bus.hands import Given, Hands, Iteration
from open_channel.bus.message import OBJECT, Batch, Job, M_co, Mix, Origins, last_of, size_of
from open_channel.channel.waiter import Waiters
from open_channel.errors import ChannelClosed
from open_channel.live import Live
from open_channel.rlock import RLock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from open_channel.bus.client import BusClient
    from open_channel.bus.core.mixed import Mixed
    from open_channel.bus.core.records import Publication
    from open_channel.bus.hands import Hand
    from open_channel.errors import ChannelError

__all__ = ["Ack", "Overflow", "Subscription"]

Ack = Literal["next", "manual"]  # what says that a job is done: see Channel.subscribe()
Overflow = Literal["drop_oldest", "drop_newest", "block"]
"""What happens when a subscription's queue is full."""


class Subscription(Live, Generic[M_co]):
    """One subscription; made by ``channel.subscribe()``.

    It is live from when its ``async with`` block is entered until that is left: what is published
    after ``__aenter__`` has returned, by anybody, arrives. Iterate over it, or ``get()``. Several
    tasks may do so at once; each message goes to one of them. Before it is entered that raises
    RuntimeError.
    """

    def __init__(
        self,
        client: Callable[[], BusClient],
        pattern: str,
        *,
        group: str | None = None,
        overflow: Overflow = "drop_oldest",
        ack: Ack = "next",
        prefetch: int = 8,
        queue: int | None = None,
        wanted: Any = None,
    ) -> None:
        if overflow not in {"drop_oldest", "drop_newest", "block"}:
            raise ValueError(f"overflow is drop_oldest, drop_newest or block, not {overflow!r}")
        if ack not in {"next", "manual"}:
            raise ValueError(f"ack is next or manual, not {ack!r}")
        if group is not None and not 0 < len(check_text("group", group)) <= MAX_TOPIC:
            raise ValueError(f"group is a name of 1 to {MAX_TOPIC} bytes of UTF-8")
        codec.check_type(wanted)
        self.pattern = check_pattern(pattern)
        """What it subscribes to."""
        self.group = group
        """The group it shares its messages with; None: it gets all of them."""
        self.type = wanted
        """What ``message.data`` is decoded into and checked against; None: as it was sent."""
        self._client_of = client
        self._overflow = overflow
        self._manual = ack == "manual"
        self._prefetch = check_count("prefetch", prefetch, 1)
        self._bound = None if queue is None else check_count("queue", queue)
        self._client: BusClient | None = None
        self._interest: Interest | None = None
        self._live = False
        self._lock = RLock()  # for threads to wait for each other; the loop only tries
        self._batches: deque[Batch | Mix] = deque()
        self._put = self._gone = 0  # bytes that ever came in, and out
        self._batch: Batch | Mix | None = None  # that of the messages
        self._parts: deque[Batch | Mix] = deque()
        """What is left of those that were given in parts; it counts as taken."""
        self._origins = Origins(wanted)
        self._messages: Iterator[M_co] = iter(())
        self._untold: dict[bytes, int] = {}
        """Of a blocking one: {publisher: up to where the broker does not know that it is here}."""
        self._missed = 0
        self._given = Given()
        self._hands = Hands()
        self._error: ChannelError | None = None
        self._readers = Waiters()
        self.missed = 0
        """Counts the messages this subscription has lost, those of unknown number left out."""
        self.on_change: Callable[[], None] | None = None
        """Called in the loop when there is something to take, or the end."""
        self.post: Callable[[Callable[[], None]], None] | None = None
        """How the consumer's thread leaves something for the loop; None: ``BusClient.run``."""

    def __repr__(self) -> str:
        group = f" in {self.group!r}" if self.group else ""
        return f"<Subscription {self.pattern!r}{group}, {self.backlog} bytes>"

    @property
    def backlog(self) -> int:
        """The bytes of what has arrived and was not taken."""
        return self._put - self._gone

    # --- begin and end ---------------------------------------------------------------------

    def begin(self) -> None:
        """Subscribe; ``live()`` follows. Raises what closed the channel."""
        if self._interest is not None:
            raise RuntimeError("a subscription is entered once; make another")
        client = self._client = self._client_of()
        if self._bound is None:
            self._bound = client.limits.queue
        self._undo = client.when_ended(self._fail)
        self._interest = client.subscribe(
            lambda number: Interest(
                number,
                self.pattern,
                self,
                group=self.group or "",
                blocks=self._overflow == "block" and self.group is None,
                prefetch=self._prefetch,
            )
        )

    async def __aenter__(self) -> Self:
        """Subscribe, and wait until that is known to the broker.

        Raises what closed the channel. When it is cancelled the subscription is undone.
        """
        self.begin()
        assert self._client is not None
        try:
            await self._client.waiting.until(lambda: self._live)
        except BaseException:
            self.end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; jobs that are not acknowledged go to others."""
        self.end()

    def end(self) -> None:
        """Unsubscribe; again is harmless. What has arrived can still be taken."""
        client, interest = self._client, self._interest
        if client is None or interest is None:
            return
        self._undo()
        if client.error is None:
            client.core.unsubscribe(interest, [])
            client.schedule()
        self._given.lose_all()
        self._fail(ChannelClosed(name=client.name, reason="the subscription has ended"))

    def _fail(self, error: ChannelError) -> None:
        self._given.take_no_more()  # others get them
        if self._error is None:
            self._error = error
            self.wake(now=False)

    def forked(self, error: ChannelError) -> None:
        """In a child: what has arrived is the parent's."""
        self._error = error
        self._batches.clear()
        self._given.take_no_more()
        self._parts.clear()
        self._messages = iter(())

    # --- what the core tells ---------------------------------------------------------------

    def live(self) -> None:
        """See ``Sink``."""
        self._live = True
        assert self._client is not None
        self._client.has_room()

    def deliver(self, publication: Publication, messages: Sequence[bytes]) -> None:
        """See ``Sink``."""
        missed, self._missed = self._missed, 0
        origin = self._origins.of(publication)[publication.topic]
        size = len(publication.record) + OBJECT * len(messages)
        self._queue(Batch(origin, messages, publication.last, size, missed))

    def deliver_mixed(self, mixed: Mixed, topics: Sequence[str], messages: Sequence[bytes]) -> None:
        """See ``Sink``."""
        missed, self._missed = self._missed, 0
        of = self._origins.of(mixed)
        origins = [of[topic] for topic in topics]
        self._queue(Mix(origins, messages, mixed.last, size_of(messages), missed))

    def _queue(self, batch: Batch | Mix) -> None:
        assert self._bound is not None
        excess = self.backlog + batch.size - self._bound
        if excess > 0 and self._batches and not self._make_room(excess, batch):
            self._missed = batch.missed
            self._count(len(batch))
            return
        self._put += batch.size
        self._batches.append(batch)
        if self._overflow == "block":
            self._untold[batch.publisher] = batch.last
            self._tell_taken()
        assert self._client is not None
        self._client.touched(self)

    def _make_room(self, excess: int, newest: Batch | Mix) -> bool:
        """Whether the newest one is kept, and not dropped itself."""
        assert self._client is not None
        if self._overflow != "drop_oldest":
            return self._overflow == "block"
        if not self._lock.acquire(blocking=False):
            # A thread is taking the oldest: room is made when the next one comes. Only a signal
            # handler can take so long there that much more comes until then.
            return excess - newest.size <= self._client.limits.window
        try:
            dropped = missed = 0
            while self._batches and dropped < excess:
                batch = self._batches.popleft()
                dropped += batch.size
                self._gone += batch.size
                self._lose(len(batch))
                missed = add_missed(missed, add_missed(batch.missed, len(batch)))
            first = self._batches[0] if self._batches else newest
            first.missed = add_missed(first.missed, missed)
        finally:
            self._lock.release()
        return True

    def _count(self, count: int) -> None:
        self._missed = add_missed(self._missed, count)
        self._lose(max(count, 0))

    def _lose(self, count: int) -> None:
        assert self._client is not None
        self.missed += count
        self._client.missed += count

    def missing(self, count: int) -> None:
        """See ``Sink``."""
        self._count(count)

    def job(self, publication: Publication, seq: int, message: bytes, redelivered: bool) -> None:
        """See ``Sink``."""
        origin = self._origins.of(publication)[publication.topic]
        job = Job(origin, message, 0, redelivered, number=seq, _finish=self.finish)
        self._given.put(job)
        assert self._client is not None
        self._client.touched(self)

    def lost(self, publisher: bytes, seq: int) -> None:
        """See ``Sink``."""
        self._given.lose((publisher, seq))

    # --- jobs ------------------------------------------------------------------------------

    def finish(self, job: Job, done: bool) -> bool:
        """See ``Job.ack()`` and ``Job.reject()``. False when its end was known before."""
        assert self._client is not None
        if job not in self._given:
            return False
        self._client.check_open()  # in a forked child too: nothing here is its own
        return self._settle(job, done)

    def _settle(self, job: Job, done: bool) -> bool:
        """Say what became of a job; False when that was said."""
        if not self._given.finish(job):
            return False
        self._run(partial(self._tell_finished, job, done))
        return True

    def _tell_finished(self, job: Job, done: bool) -> None:
        client, interest = self._client, self._interest
        assert client is not None
        assert interest is not None
        self._given.finished(job)
        if client.error is None:
            act = client.core.done if done else client.core.reject
            act(interest, *job.key)
            client.schedule()

    def _run(self, callback: Callable[[], None]) -> None:
        assert self._client is not None
        (self.post or self._client.run)(callback)

    # --- taking ----------------------------------------------------------------------------

    def take(self, hand: Hand | None = None) -> M_co | None:
        """The next message, if there is one.

        Of a group, this says that the job before is done: the last one that was taken with this
        ``hand``; None is the one of the task that runs.
        """
        if self.group is not None:
            job: M_co | None = self._take_job(hand or self._hands.mine())
            return job
        while True:
            messages = self._messages
            message = next(messages, None)
            if message is not None:
                return message
            if not self._go_on(messages):
                return None

    def _take_job(self, hand: Hand) -> Any:  # a Job or None: of a group M_co is Job
        if not self._manual:
            for job in (*hand.finished(), *self._hands.left()):
                if self._client is not None and self._client.error is None:
                    self._settle(job, True)
        taken = self._given.take()
        if taken is not None and not self._manual:
            hand.put(taken)
        return taken

    def _go_on(self, exhausted: Iterator[M_co]) -> bool:
        """Go on to the next batch, unless another has done so; False when there is none.

        A signal handler may do all of this in the midst of any call of it, but nowhere else.
        """
        with self._lock:
            while self._messages is exhausted:
                source = self._parts or self._batches
                if not source:
                    return False
                batch = source[0]
                if batch is not self._batch:  # else that is exhausted, and was not removed yet
                    messages: Iterator[Any] = iter(batch)  # without a group M_co is Message
                    if self._messages is not exhausted or not source or source[0] is not batch:
                        continue
                    self._batch, self._messages = batch, messages
                try:
                    source.remove(batch)
                except ValueError:
                    continue
                if source is self._batches:
                    self._gone += batch.size
        self._tell_soon()
        return True

    def _next_batch(self) -> Batch | Mix | None:
        while source := self._parts or self._batches:
            batch = source.popleft()
            if source is self._batches:
                self._gone += batch.size
            if batch is not self._batch:  # as in _go_on()
                return batch
        return None

    def _tell_soon(self) -> None:
        assert self._bound is not None
        if self._untold and self.backlog <= self._bound:
            self._run(self._tell_taken)

    def _tell_taken(self) -> None:
        """Let publishers go on, unless the queue is full."""
        client, interest = self._client, self._interest
        assert client is not None
        assert interest is not None
        assert self._bound is not None
        if self.backlog > self._bound or client.error is not None:
            return
        untold, self._untold = self._untold, {}
        for publisher, last in untold.items():
            client.core.took(interest, publisher, last)
        client.schedule()

    def take_batch(self) -> Batch | None:
        """The next messages that came together, if there are any."""
        with self._lock:
            messages, batch = self._messages, self._batch
            rest = list(messages)
            found = self._next_batch() if batch is None or not rest else last_of(batch, rest)
            if isinstance(found, Mix):
                found, more = found.split()
                if more is not None:
                    self._parts.appendleft(more)
        if self._untold:
            self._tell_soon()
        return found

    @property
    def error(self) -> ChannelError | None:
        """What has ended it; None while it goes on."""
        return self._error

    @property
    def at_end(self) -> bool:
        """Whether nothing will follow what has arrived.

        Raises what ended it, if that was an error, and RuntimeError when it has not begun.
        """
        if self._error is None:
            if self._client is None:
                raise RuntimeError("a subscription is used inside its block")
            return False
        if not isinstance(self._error, ChannelClosed):
            raise self._error.again()
        return True

    def wake(self, *, now: bool) -> None:
        """There is something to take, or there never will be again."""
        self._readers.wake(now=now)
        if self.on_change is not None:
            self.on_change()

    def _wait(self) -> Coroutine[Any, Any, None]:
        assert self._client is not None
        return self._readers.wait(self._client.loop)

    def get(self) -> Coroutine[Any, Any, M_co]:
        """The next message; of a group, a job.

        Asking for a job says that the one that this task got before is done, unless ``ack`` is
        ``"manual"``.

        Raises ChannelClosed at the end, and what closed the channel when that was an error. Can
        be cancelled: no message is lost by it.
        """
        # This much runs in the task that calls it, and the rest, with asyncio.wait_for() of Python
        # 3.11, in another one.
        return self._get(None if self.group is None else self._hands.mine())

    async def _get(self, hand: Hand | None) -> M_co:
        while (message := self.take(hand)) is None:
            if self.at_end:
                assert self._error is not None
                raise self._error.again()
            await self._wait()
        return message

    def __aiter__(self) -> AsyncIterator[M_co]:
        """Iterate over the messages until the channel is closed or the block is left.

        Of a group, each iteration has its own job in hand, which is done when that is asked for
        the next one, or when it has been left and its task asks for more.
        """
        return self if self.group is None else _Jobs(self, Iteration(self._hands.mine()))

    async def __anext__(self) -> M_co:
        """The next message; see ``get()``."""
        # As mostly: what follows is two calls more, a third of the time of a message.
        message = next(self._messages, None)
        return message if message is not None else await self.following(None)

    async def following(self, hand: Hand | None) -> M_co:
        """The next message; see ``take()``. Raises StopAsyncIteration at the end."""
        while (message := self.take(hand)) is None:
            if self.at_end:
                raise StopAsyncIteration
            await self._wait()
        return message

    async def batches(self) -> AsyncIterator[Batch]:
        """Iterate over batches: messages of one publisher to one topic that came together.

        Raises TypeError for a group, whose messages come one by one.
        """
        if self.group is not None:
            raise TypeError("the jobs of a group come one by one")
        while True:
            if (batch := self.take_batch()) is not None:
                yield batch
            elif self.at_end:
                return
            else:
                await self._wait()


class _Jobs(Generic[M_co]):
    """One iteration over the jobs of a group."""

    def __init__(self, subscription: Subscription[M_co], hand: Hand) -> None:
        self._subscription = subscription
        self._hand = hand

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M_co:
        return await self._subscription.following(self._hand)
