"""The blocking subscription: messages are taken from where the loop puts them, without it.

A thread that finds nothing there sleeps until the loop says that something has arrived.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from open_channel.bus.hands import Hand, Iteration
from open_channel.bus.message import M_co
from open_channel.bus.subscription import Subscription as AsyncSubscription
from open_channel.errors import WaitTimeout
from open_channel.live import Live
from open_channel.rlock import RLock
from open_channel.sync import portal
from open_channel.sync.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from open_channel.bus.client import BusClient
    from open_channel.bus.message import Batch
    from open_channel.bus.subscription import Ack, Overflow
    from open_channel.sync.bus import Bus

__all__ = ["Subscription"]

_T = TypeVar("_T")


class Subscription(Live, Generic[M_co]):
    """One subscription; made by ``channel.subscribe()``.

    It is live from when its ``with`` block is entered until that is left: what is published after
    that, by anybody, arrives. Iterate over it, or ``get()``. Several threads may do so at once;
    each message goes to one of them. Before it is entered that raises RuntimeError. In a forked
    child it raises ChannelForked: what arrives stays the parent's, and the child subscribes for
    itself.
    """

    def __init__(
        self,
        join: Callable[[], Bus],
        pattern: str,
        *,
        group: str | None,
        overflow: Overflow,
        ack: Ack,
        prefetch: int,
        queue: int | None,
        wanted: Any,
    ) -> None:
        self._join = join
        self._bus: Bus | None = None
        self._bell = Bell()
        self._taking = RLock()  # one thread at a time; a signal handler may interrupt it
        self._hands = threading.local()
        self._inner: AsyncSubscription[M_co] = AsyncSubscription(
            self._client,
            pattern,
            group=group,
            overflow=overflow,
            ack=ack,
            prefetch=prefetch,
            queue=queue,
            wanted=wanted,
        )

        self.pattern = self._inner.pattern
        """What it subscribes to."""
        self.group = group
        """The group it shares its messages with; None: it gets all of them."""
        self.type = wanted
        """What ``message.data`` is decoded into and checked against; None: as it was sent."""

    def _client(self) -> BusClient:
        if self._bus is None:
            raise RuntimeError("a subscription is used inside its block")
        return self._bus.client

    def __repr__(self) -> str:
        return f"<sync {self._inner!r}>"

    @property
    def missed(self) -> int:
        """Counts the messages this subscription has lost, those of unknown number left out."""
        return self._inner.missed

    @property
    def backlog(self) -> int:
        """The bytes of what has arrived and was not taken."""
        return self._inner.backlog

    def __enter__(self) -> Self:
        """Subscribe, and wait until that is known to the broker.

        Raises what closed the channel, and RuntimeError when it was entered before.
        """
        new = self._bus is None
        bus = self._bus or self._join()
        if new:
            self._bus = bus
            self._inner.on_change = self._bell.ring
            self._inner.post = bus.post
        try:
            bus.run(self._inner.__aenter__)
        except BaseException:  # it may be live when a signal handler raises: nobody else ends it
            if new:
                self.let_go()
            raise
        return self

    @portal.closes
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unsubscribe; jobs that are not acknowledged go to others. In a forked child: nothing."""
        bus = self._bus
        if bus is None or bus.forked or portal.frozen():
            return
        if bus.client.error is None:
            bus.call(self._inner.end)

    def let_go(self) -> None:
        """Unsubscribe, without waiting until that is done; again is harmless."""
        if self._bus is not None and not self._bus.forked:
            self._bus.post(self._inner.end)

    # --- taking ----------------------------------------------------------------------------

    def take(self) -> M_co | None:
        """The next message, if there is one; of a group, as ``get()``."""
        if self._forked():
            self._client().check_open()
        return self._inner.take(self._hand())

    def _hand(self) -> Hand | None:
        """This thread's own, of a group."""
        if self.group is None:
            return None
        hand = getattr(self._hands, "hand", None)
        if hand is None:
            hand = self._hands.hand = Hand()
        return hand

    def _forked(self) -> bool:
        return self._bus is not None and self._bus.forked

    def following(self, hand: Hand | None, timeout: float | None) -> M_co | None:
        """The next message; None at the end. Raises WaitTimeout, and what ended it by an error."""
        return self._wait(lambda: self._inner.take(hand), timeout)

    def _wait(self, take: Callable[[], _T | None], timeout: float | None) -> _T | None:
        client = self._client()
        if self._forked():
            client.check_open()
        timeout = portal.bound(timeout)

        def look() -> tuple[_T | None] | None:
            with self._taking:
                ended = self._inner.error is not None  # first: then no more will come
                if (taken := take()) is None and not (ended and self._inner.at_end):
                    return None
            return (taken,)

        found = self._bell.wait_for(look, timeout)
        if found is None:
            raise WaitTimeout(what=f"a message to {self.pattern}", timeout=timeout)
        return found[0]

    def get(self, timeout: float | None = None) -> M_co:
        """The next message; of a group, a job.

        Asking for a job says that the one that this thread got before is done. ``timeout`` is in
        seconds; None waits for ever, 0 takes what has arrived.

        Raises WaitTimeout when it passes first, ChannelClosed at the end, what closed the channel
        when that was an error, and ChannelForked in a forked child.
        """
        message = self.following(self._hand(), timeout)
        if message is None:
            assert self._inner.error is not None
            raise self._inner.error.again()
        return message

    def __iter__(self) -> Iterator[M_co]:
        """Iterate over the messages until the channel is closed or the block is left.

        Of a group, each iteration has its own job in hand, which is done when that is asked for
        the next one, or when it has been left and its thread asks for more.
        """
        hand = self._hand()
        return self if hand is None else _Jobs(self, Iteration(hand))

    def __next__(self) -> M_co:
        """The next message; see ``get()``."""
        # The fast way: a million messages a second come through here.
        bus = self._bus
        if bus is not None and bus.client.error is None and self.group is None:
            message = self._inner.take()
            if message is not None:
                return message
        message = self.following(self._hand(), None)
        if message is None:
            raise StopIteration
        return message

    def batches(self) -> Iterator[Batch]:
        """Iterate over batches: messages of one publisher to one topic that came together.

        Raises TypeError for a group, whose messages come one by one.
        """
        if self.group is not None:
            raise TypeError("the jobs of a group come one by one")
        return iter(lambda: self._wait(self._inner.take_batch, None), None)


class _Jobs(Generic[M_co]):
    """One iteration over the jobs of a group."""

    def __init__(self, subscription: Subscription[M_co], hand: Hand) -> None:
        self._subscription = subscription
        self._hand = hand

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> M_co:
        job = self._subscription.following(self._hand, None)
        if job is None:
            raise StopIteration
        return job
